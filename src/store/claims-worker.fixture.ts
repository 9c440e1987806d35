import { hash } from 'node:crypto'
import { parentPort, workerData } from 'node:worker_threads'
import { ClaimTable } from './claims.ts'

const table = new ClaimTable(workerData)
let count = 0
for (let i = 0; i < 5000; i++) if (table.claim(hash('sha256', String(i), 'buffer'))) count++
parentPort?.postMessage(count)
