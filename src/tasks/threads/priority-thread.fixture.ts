import { readFileSync } from 'node:fs'
import { inThread } from './thread.ts'

/** A thread for tests: tells its own nice. Source: proc_pid_stat(5), field 19; the name in field 2 may hold spaces. */
inThread(async () => {
  const stat = readFileSync('/proc/thread-self/stat', 'latin1')
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[16])
})
