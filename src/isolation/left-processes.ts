import { readdir, readFile } from 'node:fs/promises'
import { isErrno } from '../host/tools/durable.ts'
import { waitGone } from '../host/tools/processes.ts'
import { Fault } from '../image/fault.ts'

const GONE_MS = 10_000

/** An argument by which a process is known: a path with an ending that nobody else's arguments have. */
export interface Mark {
  readonly ending: string
  /** What may stand before the path, in the same argument. */
  readonly option: string
}

const PID_FILE: Mark = { ending: '.pid', option: '--pid-file=' }

interface LeftProcess {
  readonly pid: number
  readonly path: string
}

/**
 * Kills all processes that have such a path among their arguments, of a pid file unless `mark` says otherwise, if it begins
 * with one of `prefixes`, and waits until they are gone. Asked of the system and not of files: a program may write its own
 * long after its start, and who started it may be dead by then. Fault 'unavailable' for one that does not end even so.
 */
export async function endProcessesOf(prefixes: readonly string[], mark: Mark = PID_FILE): Promise<void> {
  for (;;) {
    const killed = (await find(prefixes, mark)).filter(({ pid }) => kill(pid))
    if (killed.length === 0) return
    const isGone = await Promise.all(killed.map(({ pid, path }) => waitGone(pid, path, GONE_MS)))
    const stuck = killed[isGone.indexOf(false)]
    // Again, as one that was found may have been about to start another.
    if (stuck === undefined) continue
    const message = `Process ${stuck.pid} does not end, even when killed. Look at its storage.`
    throw new Fault('unavailable', message, { subject: 'host' })
  }
}

async function find(prefixes: readonly string[], mark: Mark): Promise<LeftProcess[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number)
  const found = await Promise.all(pids.map((pid) => look(pid, prefixes, mark)))
  return found.filter((one) => one !== undefined)
}

async function look(
  pid: number,
  prefixes: readonly string[],
  { ending, option }: Mark,
): Promise<LeftProcess | undefined> {
  if (pid === process.pid) return undefined
  for (const word of await argumentsOf(pid)) {
    const path = word.startsWith(option) ? word.slice(option.length) : word
    if (path.endsWith(ending) && prefixes.some((prefix) => path.startsWith(prefix))) return { pid, path }
  }
  return undefined
}

/** Source: proc(5), /proc/PID/cmdline: arguments that end with a zero byte each. */
async function argumentsOf(pid: number): Promise<string[]> {
  try {
    return (await readFile(`/proc/${pid}/cmdline`, 'utf8')).split('\0')
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ESRCH', 'EACCES', 'EPERM')) return []
    throw error
  }
}

/** False for one that is gone, or another user's: what we may not end we have not started. */
function kill(pid: number): boolean {
  try {
    process.kill(pid, 'SIGKILL')
    return true
  } catch (error) {
    if (isErrno(error, 'ESRCH', 'EPERM')) return false
    throw error
  }
}
