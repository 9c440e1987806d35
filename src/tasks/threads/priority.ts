import { constants, getPriority, setPriority } from 'node:os'
import { Worker } from 'node:worker_threads'

/**
 * So much nicer than the process. Where all cores are wanted the kernel then gives a thread a third of what it gives whoever
 * answers requests, and never nothing: nobody waits forever for a lock that it holds.
 */
const NICER = 5

/**
 * Lets the calling thread, and whatever it starts, stand back from those that somebody waits for: the thread that answers
 * requests, and the one that serves guests their disks, which therefore does not call this. It is for good. Nothing happens
 * where a system has no priorities of threads, or does not grant them. May be called twice.
 * Source: setpriority(2), "C library/kernel differences".
 */
export function standBack(): void {
  // Only Linux takes 0 for the calling thread; elsewhere it is the whole process, which must stay what it is.
  if (process.platform !== 'linux') return
  try {
    const nice = getPriority(process.pid) + NICER
    setPriority(0, Math.min(nice, constants.priority.PRIORITY_LOW))
  } catch {}
}

/** A thread that runs `file`, and stands back from its first line on. */
export function niceWorker(file: URL): Worker {
  return new Worker(new URL('./nice-thread.ts', import.meta.url), { workerData: file.href })
}
