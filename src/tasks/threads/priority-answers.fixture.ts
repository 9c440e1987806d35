import { getPriority } from 'node:os'
import { answer } from './talk.ts'

/** A thread for tests that answers questions: its own nice, and the nice of its process. */
answer(async () => ({ ofThread: getPriority(0), ofProcess: getPriority(process.pid) }))
