import { refuse } from '../volume/refuse.ts'
import { serveExaminer } from './examiner-loop.ts'
import { type Act, type Misdeed, type Moment, toySkills } from './toy-disk.fixture.ts'

/** An examiner for toy disks, which does whatever wrong a disk tells it to: as if the disk had taken it over. */

let scrubCount = 0

const act: Act = async (at, { misdeed }) => {
  let now: Moment = at
  // The check is a second scrub.
  if (at === 'scrub' && ++scrubCount > 1) now = 'check'
  if (misdeed?.at === now) await misbehave(misdeed.does)
}

async function misbehave(does: Misdeed): Promise<void> {
  switch (does) {
    case 'loop':
      for (;;);
    case 'bomb': {
      const kept: Buffer[] = []
      for (;;) kept.push(Buffer.alloc(16 * 1024 * 1024, 1))
    }
    case 'heap': {
      const kept: number[][] = []
      for (;;) kept.push(Array.from({ length: 100_000 }, Math.random))
    }
    case 'die':
      process.exit(3)
      break
    case 'fall':
      // As if the system had chosen it.
      process.kill(process.pid, 'SIGKILL')
      await new Promise(() => setInterval(() => {}, 1000))
      break
    case 'throw':
      throw new TypeError('canary-in-a-message')
    case 'babble': {
      const line = 'x'.repeat(1024 * 1024)
      for (;;) await new Promise((resolve) => process.stdout.write(line, resolve))
    }
    case 'drivel':
      process.stdout.write(`${JSON.stringify({ is: 'answer', value: { disks: 'no' } })}\n`)
      await new Promise(() => setInterval(() => {}, 1000))
      break
    case 'refuse':
      throw refuse('damaged', 'It is broken\u0007.')
    default:
      does satisfies never
  }
}

await serveExaminer(process.argv.slice(3), toySkills(act))
