import { workerData } from 'node:worker_threads'
import { standBack } from './priority.ts'

// The first code of each thread that works, whose data is the file to go on with: reading all that the file imports
// takes a tenth of a second of a core, and whoever answers requests needs that core too.
standBack()
await import(workerData as string)
