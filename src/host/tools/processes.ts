import { readdir, readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { Fault } from '../../image/fault.ts'
import { findText, isErrno } from './durable.ts'

const POLL_MS = 20

/**
 * The process that wrote `pidPath`, if it lives. The pid alone proves nothing, as the system gives pids again: the
 * process must also carry the path of its own pid file among its arguments.
 */
export async function findProcess(pidPath: string): Promise<number | undefined> {
  const pid = Number((await findText(pidPath))?.trim())
  if (!Number.isSafeInteger(pid) || pid <= 1) return undefined
  return (await carries(pid, pidPath)) ? pid : undefined
}

/**
 * True while `pid` is the process that has `marker` among its arguments, or is on its way out: the arguments go first,
 * the open files and their locks later. A zombie holds nothing any more.
 */
export async function carries(pid: number, marker: string): Promise<boolean> {
  try {
    const line = await readFile(`/proc/${pid}/cmdline`, 'utf8')
    return line === '' ? await isLeaving(pid) : line.includes(marker)
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ESRCH')) return false
    throw error
  }
}

/** Source: proc(5), /proc/PID/stat: field 3 is the state, field 9 the flags; PF_EXITING of the kernel is 4. */
async function isLeaving(pid: number): Promise<boolean> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  // The first thread may be a zombie while others still close the files they all share.
  if (fields[0] === 'Z' || fields[0] === 'X') return (await readdir(`/proc/${pid}/task`)).length > 1
  return (Number(fields[6]) & 4) !== 0
}

/** Waits until the process is gone; false if it still lives after `timeoutMs`. */
export async function waitGone(
  pid: number,
  marker: string,
  timeoutMs: number,
  signal?: AbortSignal,
): Promise<boolean> {
  const end = performance.now() + timeoutMs
  while (await carries(pid, marker)) {
    if (performance.now() >= end) return false
    await sleep(POLL_MS, undefined, signal && { signal })
  }
  return true
}

/** Ends the process behind `pidPath`: asks for `politeMs` with SIGTERM, then kills. Nothing there is no fault. */
export async function endProcess(pidPath: string, politeMs: number): Promise<void> {
  const pid = await findProcess(pidPath)
  if (pid === undefined) return
  if (politeMs > 0) {
    send(pid, 'SIGTERM')
    if (await waitGone(pid, pidPath, politeMs)) return
  }
  send(pid, 'SIGKILL')
  if (await waitGone(pid, pidPath, 10_000)) return
  throw new Fault('unavailable', `Process ${pid} does not end, even when killed. Look at its storage.`, {
    subject: 'host',
  })
}

function send(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch (error) {
    if (!isErrno(error, 'ESRCH')) throw error
  }
}
