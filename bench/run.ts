import { readdirSync } from 'node:fs'
import { basename } from 'node:path'
import { thisMachine } from './tools/machine.ts'
import { type Bench, reportOf, tableOf } from './tools/report.ts'

// npm run bench -- NAME [--json]: runs bench/NAME.ts. The report alone goes to standard output, as a table or as one
// JSON object; lines about the progress go to standard error. A mark that is missed is told, and is no failure.

const names = readdirSync(import.meta.dirname, { withFileTypes: true })
  .filter(
    (entry) => entry.isFile() && entry.name.endsWith('.ts') && entry.name !== basename(import.meta.filename),
  )
  .map((entry) => basename(entry.name, '.ts'))
  .sort()

const words = process.argv.slice(2)
const isJson = words.includes('--json')
const [name, ...others] = words.filter((word) => word !== '--json')
if (name === undefined || !names.includes(name) || others.length > 0) {
  const wrong = others[0] ?? name
  if (wrong !== undefined) console.error(`bench: there is no '${wrong}'.`)
  console.error(`npm run bench -- NAME [--json], where NAME is one of: ${names.join(', ')}`)
  process.exit(2)
}

const machine = thisMachine()
const { run } = (await import(`./${name}.ts`)) as { run: Bench }
const report = reportOf(name, machine, await run((line) => console.error(`  ${line}`)))
console.log(isJson ? JSON.stringify(report, null, 1) : tableOf(report))
