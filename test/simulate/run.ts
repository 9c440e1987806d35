import './builtins.ts'
import { spawnSync } from 'node:child_process'
import { parseArgs } from 'node:util'
import { Counters } from './counters.ts'
import { install, MUTANTS } from './mutants.ts'

/**
 * `npm run simulate -- --schedules N --seed S [--path P]`: random schedules over the real store, checked step by step.
 * `--mutants` runs them over stores with one deliberate fault each, all of which have to be found (`--mutant I`: one).
 */
const { values } = parseArgs({
  options: {
    schedules: { type: 'string', default: '2000' },
    seed: { type: 'string', default: String(Math.floor(Math.random() * 2 ** 31)) },
    path: { type: 'string' },
    mutants: { type: 'boolean', default: false },
    mutant: { type: 'string' },
    json: { type: 'boolean', default: false },
  },
})

function runMutants(): void {
  console.log(`seed ${values.seed}`)
  for (const [i, { name }] of MUTANTS.entries()) {
    const { schedules, seed } = values
    const options = ['--mutant', String(i), '--schedules', schedules, '--seed', seed]
    const { status, stdout, stderr } = spawnSync(process.execPath, [import.meta.filename, ...options], {
      encoding: 'utf8',
    })
    const [, count] = /Failed after (\d+) schedules/.exec(stderr) ?? []
    const [, how = ''] = /^(?:\w*Error|Fault)[^:]*: (.*)/m.exec(stderr) ?? []
    if (count === undefined) process.exitCode = 1
    const told = count === undefined ? `NOT FOUND (${status}) ${stdout}${stderr}` : `found after ${count}`
    console.log(`${name}: ${told}: ${how.slice(0, 110)}`)
  }
}

async function runOnce(): Promise<void> {
  const mutant = MUTANTS[Number(values.mutant ?? -1)]
  if (mutant !== undefined) install(mutant)
  // Not before the fault is in, and what the store would import of Node is replaced.
  const { runSchedules } = await import('./runs.ts')
  const counters = new Counters()
  const began = performance.now()
  const failure = await runSchedules({
    scheduleCount: Number(values.schedules),
    seed: Number(values.seed),
    ...(values.path === undefined ? {} : { path: values.path }),
    ...(mutant === undefined ? {} : { shrinkMs: 0 }),
    counters,
  })
  const seconds = (performance.now() - began) / 1000
  if (values.json) console.log(JSON.stringify(counters.toObject()))
  else {
    console.table(counters.toObject())
    console.log(`${counters.get('schedules')} schedules in ${seconds.toFixed(1)} s, seed ${values.seed}`)
  }
  if (failure === undefined) return
  console.error(failure)
  process.exitCode = 1
}

if (values.mutants) runMutants()
else await runOnce()
