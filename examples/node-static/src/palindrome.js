// Whether the letters of `sentence` are the same read from its end; case, blanks and signs do not count.
export function isPalindrome(sentence) {
  const letters = [...sentence.toLowerCase()].filter((sign) => /[\p{L}\p{N}]/u.test(sign))
  return letters.length > 0 && letters.join() === letters.reverse().join()
}
