import { createInterface } from 'node:readline'
import { openNbd } from '../disk/nbd-client.ts'
import { isFault } from '../image/fault.ts'
import { Examination } from './examination.ts'
import type { Ask, At, Failure, Reply } from './examiner-words.ts'
import { NbdMedium } from './nbd-medium.ts'
import type { Skills } from './skills.ts'

/** Inherited sockets begin after the three standard streams. */
const FIRST_SOCKET = 3
const PLACE_COUNT_MAX = 20

/**
 * The life of an examiner: takes the disks that the service has connected it to, by their exports' names, answers asks from standard input one after
 * the other on standard output, and ends with them.
 */
export async function serveExaminer(exportNames: readonly string[], skills: Skills): Promise<void> {
  const media: NbdMedium[] = []
  for (const [index, exportName] of exportNames.entries())
    media.push(new NbdMedium(await openNbd({ fileDescriptor: FIRST_SOCKET + index, exportName })))
  // Into a pipe words go at once, also when a loop without end comes next.
  const examination = new Examination(media, skills, (volume) => void say({ is: 'at', volume }))
  for await (const line of createInterface({ input: process.stdin })) {
    void say({ is: 'at', volume: -1 })
    await say(await replyTo(examination, JSON.parse(line) as Ask))
  }
  process.exit(0)
}

function say(word: Reply<unknown> | At): Promise<void> {
  return new Promise((resolve) => process.stdout.write(`${JSON.stringify(word)}\n`, () => resolve()))
}

async function replyTo(examination: Examination, ask: Ask): Promise<Reply<unknown>> {
  try {
    return { is: 'answer', value: (await answerTo(examination, ask)) ?? null }
  } catch (error) {
    return { is: 'failure', failure: failureOf(error, examination.volumeNow) }
  }
}

async function answerTo(examination: Examination, ask: Ask): Promise<unknown> {
  switch (ask.is) {
    case 'look':
      return await examination.look(ask.left)
    case 'plan':
      return await examination.plan(ask.volumes, ask.wish)
    case 'apply':
      return await examination.apply()
    case 'scrub':
      return await examination.scrub(ask.orders)
    case 'check':
      return await examination.check(ask.orders)
    case 'detect':
      return await examination.detect(ask.disk)
    default:
      return ask satisfies never
  }
}

function failureOf(error: unknown, volume: number): Failure {
  if (isFault(error)) {
    const { kind, subject, reason, message } = error
    return { is: 'fault', kind, subject, reason: reason ?? null, message, volume }
  }
  const { name, stack } = error instanceof Error ? error : new Error('not an error')
  const lines = (stack ?? '').split('\n').filter((line) => /^ {4}at /.test(line))
  const places = lines
    .map((line) => /[\w.-]+\.ts:\d+:\d+/.exec(line)?.[0] ?? '')
    .filter((place) => place !== '')
  return { is: 'bug', name, places: places.slice(0, PLACE_COUNT_MAX), volume }
}
