import { parentPort, workerData } from 'node:worker_threads'
import { openRegion } from '../../src/tasks/threads/region.ts'
import { placeIn, SOURCE } from './places.ts'
import { captureSynthetic, type SyntheticImage } from './synthetic.ts'

/**
 * A thread that captures one image after the other until it is told to stop, and then tells how many, and the longest
 * that it waited for the index: a writer waits nowhere else for other threads.
 */
const { folder, number } = workerData as { readonly folder: string; readonly number: number }
const region = await openRegion(placeIn(folder, SOURCE))
let isStopped = false
parentPort?.on('message', () => {
  isStopped = true
})
region.database.longest.waitMs = 0
let imageCount = 0
let chunkCount = 0
const beginMs = performance.now()
while (!isStopped) {
  const image: SyntheticImage = {
    name: `w${number}-${imageCount}`,
    first: 1_000_000 * number + imageCount * 40,
    count: 160,
  }
  await captureSynthetic(region, image)
  imageCount++
  chunkCount += image.count
}
const seconds = (performance.now() - beginMs) / 1000
const { waitMs, heldMs } = region.database.longest
region.close()
parentPort?.postMessage({ imageCount, chunkCount, seconds, waitMs, heldMs })
parentPort?.close()
