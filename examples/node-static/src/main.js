import { isPalindrome } from './palindrome.js'

const input = document.querySelector('input')
const output = document.querySelector('output')

function show() {
  output.textContent = isPalindrome(input.value) ? 'is the same backwards' : 'is another backwards'
}

input.addEventListener('input', show)
show()
