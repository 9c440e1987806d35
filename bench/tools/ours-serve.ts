import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { jobsIn, placeIn, SOURCE } from './places.ts'

// The images of the store in a folder, served as the server does it, in a process of its own, until its standard
// input ends. Arguments: FOLDER. Says the path of the socket when it answers.

const [folder = ''] = process.argv.slice(2)
const runDirectory = await mkdtemp(join(tmpdir(), 'calo-'))
const jobs = jobsIn([placeIn(folder, SOURCE)], runDirectory, 1)
try {
  await jobs.serve()
  console.log(join(runDirectory, 'images.sock'))
  await new Promise((resolve) => process.stdin.on('end', resolve).resume())
} finally {
  await jobs.close()
  await rm(runDirectory, { recursive: true, force: true })
}
