import type { ExportAsk } from './export-thread.ts'
import type { TalkingThread } from './talk.ts'

/** A thread with what it was asked and has not answered yet. */
export interface Lane {
  readonly thread: TalkingThread
  load: number
}

/** Asks a thread, counted while it has not answered. What is in `transfer` is the thread's from then on. */
export async function askLane<Result>(
  lane: Lane,
  ask: ExportAsk,
  transfer: readonly ArrayBuffer[] = [],
): Promise<Result> {
  lane.load++
  try {
    return await lane.thread.ask<Result>(ask, transfer)
  } finally {
    lane.load--
  }
}
