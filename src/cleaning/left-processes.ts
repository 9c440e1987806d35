import { readdir, readFile } from 'node:fs/promises'
import { isErrno } from '../host/tools/durable.ts'
import { waitGone } from '../host/tools/processes.ts'
import { Fault } from '../image/fault.ts'

const GONE_MS = 10_000
const PID_ENDING = '.pid'

interface LeftProcess {
  readonly pid: number
  readonly pidPath: string
}

/**
 * Kills all processes that have the path of a pid file among their arguments, if it begins with one of `prefixes`, and waits
 * until they are gone. Asked of the system and not of the pid files: a program may write its own long after its start, and
 * who started it may be dead by then. Fault 'unavailable' for one that does not end even so.
 */
export async function endProcessesOf(prefixes: readonly string[]): Promise<void> {
  for (;;) {
    const killed = (await find(prefixes)).filter(({ pid }) => kill(pid))
    if (killed.length === 0) return
    const isGone = await Promise.all(killed.map(({ pid, pidPath }) => waitGone(pid, pidPath, GONE_MS)))
    const stuck = killed[isGone.indexOf(false)]
    // Again, as one that was found may have been about to start another.
    if (stuck === undefined) continue
    const message = `Process ${stuck.pid} does not end, even when killed. Look at its storage.`
    throw new Fault('unavailable', message, { subject: 'host' })
  }
}

async function find(prefixes: readonly string[]): Promise<LeftProcess[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number)
  const found = await Promise.all(pids.map((pid) => look(pid, prefixes)))
  return found.filter((one) => one !== undefined)
}

async function look(pid: number, prefixes: readonly string[]): Promise<LeftProcess | undefined> {
  if (pid === process.pid) return undefined
  for (const word of await argumentsOf(pid)) {
    const pidPath = word.replace(/^--pid-file=/, '')
    const isOurs = pidPath.endsWith(PID_ENDING) && prefixes.some((prefix) => pidPath.startsWith(prefix))
    if (isOurs) return { pid, pidPath }
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
