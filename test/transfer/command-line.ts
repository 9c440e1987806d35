import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { ROOT } from '../../demo/server.ts'
import type { TransferPlace } from './transfer-place.ts'

export interface Running {
  readonly process: ChildProcess
  /** When it has ended. */
  readonly ended: Promise<{ readonly exitCode: number; readonly stdout: string; readonly stderr: string }>
}

/** `calotype …` as its user runs it, with what it remembers of uploads in the test's own folder. */
export function startCalotype(
  { folder }: Pick<TransferPlace, 'folder'>,
  words: readonly string[],
  stdin: 'ignore' | 'pipe' = 'ignore',
): Running {
  const child = spawn(join(ROOT, 'bin/calotype'), words, {
    stdio: [stdin, 'pipe', 'pipe'],
    cwd: folder,
    env: { ...process.env, XDG_STATE_HOME: join(folder, 'state') },
  })
  const text = { stdout: '', stderr: '' }
  child.stdout?.on('data', (bytes: Buffer) => {
    text.stdout += bytes.toString()
  })
  child.stderr?.on('data', (bytes: Buffer) => {
    text.stderr += bytes.toString()
  })
  return {
    process: child,
    ended: once(child, 'close').then(([code]) => ({ exitCode: Number(code ?? -1), ...text })),
  }
}

const placed = ({ data }: Pick<TransferPlace, 'data'>, words: readonly string[]) => [...words, '--data', data]

/** What it prints; it has to succeed. */
export async function calotypeOk(place: TransferPlace, ...words: readonly string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await startCalotype(place, placed(place, words)).ended
  assert.equal(exitCode, 0, `${words.join(' ')}\n${stderr}`)
  return stdout
}

/** The same for one that is fed through its standard input. */
export async function calotypeFed(
  place: TransferPlace,
  input: Readable,
  ...words: readonly string[]
): Promise<string> {
  const running = startCalotype(place, placed(place, words), 'pipe')
  const { stdin } = running.process
  assert(stdin !== null)
  await pipeline(input, stdin)
  const { exitCode, stdout, stderr } = await running.ended
  assert.equal(exitCode, 0, `${words.join(' ')}\n${stderr}`)
  return stdout
}
