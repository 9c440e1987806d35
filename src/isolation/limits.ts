/** What one process may take of the host; the kernel holds it to that. Source: getrlimit(2). */
export interface ProcessLimits {
  readonly cpuSeconds: number
  readonly openFileCount: number
  /** The end of any file it writes; 0 for one that writes none. Pipes and sockets are not files. */
  readonly fileBytes: number
  /** Of addresses, whether memory is behind them or not. */
  readonly addressBytes?: number
  /** Threads are counted too, of all processes of its user: so it holds only for one with a user of its own. */
  readonly processCount?: number
}

/** Where both limits of processor time are the same, the system kills without a word of why. */
const GRACE_SECONDS = 5

/** For prlimit: the first ends the process with a signal that tells why, the second for certain. */
export function cpuLimit(seconds: number): string {
  const whole = Math.ceil(seconds)
  return `--cpu=${whole}:${whole + GRACE_SECONDS}`
}

/** The arguments of prlimit. A crash leaves no memory behind in a file, whatever the host's settings are. */
export function limitWords(limits: ProcessLimits, hasOwnUser: boolean): string[] {
  const { cpuSeconds, openFileCount, fileBytes, addressBytes, processCount } = limits
  const words = [cpuLimit(cpuSeconds), '--core=0', `--nofile=${openFileCount}`, `--fsize=${fileBytes}`]
  if (addressBytes !== undefined) words.push(`--as=${addressBytes}`)
  if (processCount !== undefined && hasOwnUser) words.push(`--nproc=${processCount}`)
  return words
}
