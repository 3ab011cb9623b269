// Dice: throws `2d6` and its like, as a page and as JSON.
const { randomInt } = require('node:crypto')
const path = require('node:path')
const express = require('express')

const NAME = 'node-express'
const VERSION = '1'

const app = express()
app.set('view engine', 'ejs')
app.set('views', path.join(__dirname, 'views'))
app.use(express.static(path.join(__dirname, 'public')))

app.get('/', (request, response) => {
  const dice = request.query.dice || '2d6'
  response.render('index', { name: NAME, version: VERSION, dice, result: roll(dice) })
})

app.get('/api/roll/:dice', (request, response) => {
  const result = roll(request.params.dice)
  response.status(result ? 200 : 400).json(result ?? { error: 'dice look like 2d6' })
})

app.get('/health', (request, response) => {
  response.type('text/plain').send('ok\n')
})

// What `count`d`sides` came to, or null when `dice` is no such thing.
function roll(dice) {
  const match = /^([1-9]\d?)d([1-9]\d{0,2})$/.exec(dice)
  if (!match) return null
  const [count, sides] = match.slice(1).map(Number)
  const throws = Array.from({ length: count }, () => randomInt(sides) + 1)
  return { throws, total: throws.reduce((sum, n) => sum + n) }
}

const port = process.env.PORT || 8080
const server = app.listen(port, '0.0.0.0', () => console.log(`${NAME} listens on port ${port}`))

process.on('SIGTERM', () => server.close(() => process.exit(0)))
