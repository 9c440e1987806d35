import { readdirSync } from 'node:fs'
import { basename } from 'node:path'
import { parseArgs } from 'node:util'
import { thisMachine } from './tools/machine.ts'
import { type Bench, reportOf, tableOf } from './tools/report.ts'

// npm run bench -- NAME [--only PART,PART] [--json]: runs bench/NAME.ts, or parts of it where it has some. The report alone goes to standard output, as a table or as one
// JSON object; lines about the progress go to standard error. A mark that is missed is told, and is no failure.

const names = readdirSync(import.meta.dirname, { withFileTypes: true })
  .filter(
    (entry) => entry.isFile() && entry.name.endsWith('.ts') && entry.name !== basename(import.meta.filename),
  )
  .map((entry) => basename(entry.name, '.ts'))
  .sort()

function refuse(what: string | undefined): never {
  if (what !== undefined) console.error(`bench: ${what}`)
  console.error(
    `npm run bench -- NAME [--only PART,PART] [--json], where NAME is one of: ${names.join(', ')}`,
  )
  process.exit(2)
}

const { values, positionals } = parse()
const [name, ...others] = positionals
if (name === undefined || !names.includes(name) || others.length > 0) {
  const wrong = others[0] ?? name
  refuse(wrong === undefined ? undefined : `there is no '${wrong}'.`)
}
const { run, parts = [] } = (await import(`./${name}.ts`)) as { run: Bench; parts?: readonly string[] }
const only = values.only?.split(',')
const unknown = only?.find((part) => !parts.includes(part))
if (unknown !== undefined) {
  refuse(`${name} has no part '${unknown}'; it has ${parts.length === 0 ? 'none' : parts.join(', ')}.`)
}

const machine = thisMachine()
const report = reportOf(name, machine, await run((line) => console.error(`  ${line}`), only))
console.log(values.json ? JSON.stringify(report, null, 1) : tableOf(report))

function parse() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: { json: { type: 'boolean', default: false }, only: { type: 'string' } },
    })
  } catch (error) {
    return refuse(error instanceof Error ? error.message : String(error))
  }
}
