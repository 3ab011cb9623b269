import { defineConfig } from 'vite'

const NAME = 'node-static'
const VERSION = '1'

// index.html reads these as %NAME% and %VERSION%.
export default defineConfig({
  define: {
    'import.meta.env.NAME': JSON.stringify(NAME),
    'import.meta.env.VERSION': JSON.stringify(VERSION),
  },
})
