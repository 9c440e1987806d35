import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { pipeline } from 'node:stream'
import { refuseFile } from '../disk/formats/contract.ts'
import { toolMissing } from '../host/tools/run.ts'
import { Fault } from '../image/fault.ts'
import { bareEnvironment, prefixOf } from '../isolation/isolation.ts'
import type { ProcessLimits } from '../isolation/limits.ts'
import { findToolIsolation, rememberWorking } from '../isolation/tool.ts'

const MIB = 1024 * 1024
/** For a dictionary of 128 MiB, twice what `xz -9` uses, and what goes with it. */
const MEMORY_MEBIBYTES_MAX = 144
const ADDRESS_BYTES_MAX = 512 * MIB
const CPU_SECONDS_LEAST = 300
/** Of what comes out: far below what any processor of today does. */
const RATE_LEAST = 2 * MIB
const SAID_BYTES_MAX = 1024
/** Somebody else's: what a file does to it ends otherwise. */
const FOREIGN_SIGNALS: readonly unknown[] = ['SIGKILL', 'SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT']

function xzLimits(sizeBytesMax: number): ProcessLimits {
  return {
    cpuSeconds: CPU_SECONDS_LEAST + Math.min(sizeBytesMax, Number.MAX_SAFE_INTEGER) / RATE_LEAST,
    openFileCount: 32,
    fileBytes: 0,
    addressBytes: ADDRESS_BYTES_MAX,
    processCount: 4,
  }
}

const xzIsolation = rememberWorking(() => findToolIsolation(['xz', '--version'], xzLimits(0)))

/**
 * As `Unpack`, without its limits: `sizeBytesMax` is for the processor's time alone. The process has nothing but its input and
 * its output, and ends when this is left. What ends `packed` early is for the caller to tell from a file that is cut off.
 */
export async function* unpackXz(
  packed: AsyncIterable<Uint8Array>,
  sizeBytesMax: number,
  signal: AbortSignal,
): AsyncGenerator<Buffer> {
  const child = await start(sizeBytesMax)
  const { stdin, stdout, stderr } = child
  assert(stdin !== null && stdout !== null && stderr !== null)
  let said = ''
  stderr.on('data', (bytes: Buffer) => {
    said = (said + bytes.toString('latin1')).slice(-SAID_BYTES_MAX)
  })
  const closed = once(child, 'close')
  const abort = () => child.kill('SIGKILL')
  signal.addEventListener('abort', abort, { once: true })
  // It closes its end when it has found the file damaged, which its exit tells better.
  pipeline(packed, stdin, () => {})
  try {
    signal.throwIfAborted()
    for await (const piece of stdout as AsyncIterable<Buffer>) yield piece
    await closed
    signal.throwIfAborted()
    if (child.exitCode !== 0) throw whyEnded(child, said.trim())
  } finally {
    signal.removeEventListener('abort', abort)
    child.kill('SIGKILL')
    stdin.destroy()
    await closed
  }
}

async function start(sizeBytesMax: number): Promise<ChildProcess> {
  const isolation = await xzIsolation()
  const options = [
    '--decompress',
    '--stdout',
    '--format=xz',
    '--threads=1',
    `--memlimit-decompress=${MEMORY_MEBIBYTES_MAX}MiB`,
  ]
  if (!isolation.isWorking) throw cannotStart(isolation.failure)
  const prefix = prefixOf(isolation, { limits: xzLimits(sizeBytesMax) })
  const [command, ...words] = [...prefix, 'xz', ...options]
  assert(command !== undefined)
  const child = spawn(command, words, { cwd: '/', env: bareEnvironment(), detached: true })
  try {
    await once(child, 'spawn')
  } catch (error) {
    throw cannotStart(error)
  }
  return child
}

function cannotStart(cause: unknown): Fault {
  const said = String(cause)
  if (said.includes('No such file') || said.includes('ENOENT')) return toolMissing('xz', 'xz-utils', cause)
  const message =
    "'xz' cannot be shut in on this host, so that it is not started. Bring the file packed with gzip or zstd, or not packed."
  return new Fault('unavailable', message, { subject: 'host', reason: 'isolation', cause })
}

/** It speaks of its input as '(stdin)', and never tells what is in it. */
function whyEnded({ exitCode, signalCode }: ChildProcess, said: string): Fault {
  const cause = new Error(`xz ended with ${exitCode ?? signalCode}: ${said}`)
  if (FOREIGN_SIGNALS.includes(signalCode) || (signalCode === null && !said.includes('xz: '))) {
    const message =
      "'xz' was ended from outside, or did not start. See that the host has memory left, then try again."
    return new Fault('unavailable', message, { subject: 'host', reason: 'unpack', cause })
  }
  const fault = said.includes('Memory usage limit')
    ? refuseFile(
        'packing',
        'The file was packed with a dictionary over 128 MiB. Pack it anew with xz -9 or less, then bring it again.',
      )
    : refuseFile(
        'packing',
        'The packed file is damaged, cut off, or followed by something else. Compare its checksum with its source, then bring it again.',
      )
  fault.cause = cause
  return fault
}
