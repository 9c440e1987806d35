import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { ROOT } from '../../demo/server.ts'
import type { Place } from '../e2e/harness.ts'

export interface Ran {
  readonly exitCode: number
  readonly stdout: string
  readonly stderr: string
}

/** `calotype …` as its user runs it, in a process of its own; it finds the server by its data directory. */
export const calotype = (place: Pick<Place, 'data'>, ...argv: readonly string[]): Promise<Ran> =>
  calotypeFile(...argv, '--data', place.data)

/** The same for what needs no server. */
export function calotypeFile(...argv: readonly string[]): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const program = join(ROOT, 'bin/calotype')
    execFile(program, argv, (error, stdout, stderr) => {
      if (error !== null && typeof error.code !== 'number') reject(error)
      else resolve({ exitCode: error === null ? 0 : Number(error.code), stdout, stderr })
    })
  })
}

/** The same with --json: the one value that it prints. */
export async function calotypeJson<T>(place: Pick<Place, 'data'>, ...argv: readonly string[]): Promise<T> {
  const { exitCode, stdout, stderr } = await calotype(place, ...argv, '--json')
  assert.equal(exitCode, 0, `${argv.join(' ')}\n${stdout}${stderr}`)
  return JSON.parse(stdout) as T
}
