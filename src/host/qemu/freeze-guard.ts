import { writeSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { type AgentFacts, agentFailure, askFacts, freezeObstacle, type GuestOs } from './agent-facts.ts'
import { AgentGone, AgentRefusal, AgentSilence, AgentTalk } from './agent-talk.ts'

/**
 * A program of its own, so that it outlives the service: it has a guest's file systems frozen and is sure to have them
 * thawed again. Its one argument is a `GuardOrder`; it answers with `GuardWord`s, a line of JSON each. It thaws when a
 * line comes in, when its input ends, which is how it learns that the service has died, on SIGTERM, or after `holdMs`,
 * whatever is first, and goes on until the agent confirms it or QEMU has ended. Nothing else of ours freezes a guest.
 */
export interface GuardOrder {
  readonly agentPath: string
  /** Whether frozen file systems are of use only if the guest is Windows. */
  readonly isForWindows: boolean
  readonly isTrimming: boolean
  readonly syncMs: number
  /** Far longer than a status or a thaw takes. One that takes longer is asked for again. */
  readonly answerMs: number
  readonly trimMs: number
  readonly freezeMs: number
  /** The dead-man time: after so long the file systems are thawed, whoever forgot to ask for it. */
  readonly holdMs: number
  /** After so long without a confirmed thaw it is asked for less often: the guest stands still, or its agent is broken. */
  readonly hurryMs: number
}

/**
 * 'refused' or 'frozen' comes first and tells how it went; once a freeze was tried, 'released' is the last. The exit code
 * is 0 only if that was said, or nothing was tried.
 */
export type GuardWord =
  | { readonly says: 'refused'; readonly why: string; readonly os?: GuestOs | undefined }
  | { readonly says: 'frozen'; readonly os?: GuestOs | undefined }
  | {
      readonly says: 'released'
      /** Whether all that was frozen stood so until somebody asked for the thaw; `why` says why not. */
      readonly heldAll: boolean
      readonly why: string
      /** From before the first file system froze until the agent confirmed the thaw. */
      readonly frozenMs: number
    }

const RETRY_MS = 200
const RETRY_SLOWLY_MS = 5_000
/** Free runs shorter than our chunks would make no chunk empty, and to tell of them all takes time. */
const TRIM_BYTES_MIN = 256 * 1024

/** Why the thaw is due: the service asked for it, it is not there any more, or it took too long. */
const release = Promise.withResolvers<'asked' | 'left' | 'expired'>()
let isFreezing = false

process.stdin.once('data', () => release.resolve('asked'))
for (const event of ['end', 'error', 'close']) process.stdin.once(event, () => release.resolve('left'))
for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP']) process.on(signal, () => release.resolve('left'))
release.promise.then(() => {
  if (!isFreezing) process.exit(0)
})

await guard(JSON.parse(process.argv[2] ?? '') as GuardOrder)
process.exit(0)

async function guard(order: GuardOrder): Promise<void> {
  let talk: AgentTalk
  let facts: AgentFacts
  try {
    talk = await AgentTalk.open(order.agentPath)
    await talk.sync(order.syncMs)
    await thawEarlier(talk, order)
    facts = await askFacts(talk)
    if (order.isTrimming) await trim(talk, facts, order)
  } catch (error) {
    say({ says: 'refused', why: agentFailure(error, 'does not answer as it should') })
    return
  }
  const { os } = facts
  const why = obstacle(facts, order)
  if (why !== '') {
    say({ says: 'refused', why, os })
    return
  }
  isFreezing = true
  const startMs = performance.now()
  const refuse = (why: string) => say({ says: 'refused', why, os })
  let frozenCount = 0
  try {
    frozenCount = Number(await talk.execute('guest-fsfreeze-freeze', order.freezeMs))
    if (frozenCount > 0) say({ says: 'frozen', os })
    else refuse('The guest has no file system that can be frozen.')
  } catch (error) {
    refuse(agentFailure(error, 'did not freeze the file systems in time'))
  }
  const early = frozenCount > 0 ? await hold(talk, frozenCount, order) : 'Nothing was frozen.'
  // Also where the freeze failed: an agent that answers late freezes late.
  if (early !== '') await thawSurely(talk, order)
  const frozenMs = Math.round(performance.now() - startMs)
  say({ says: 'released', heldAll: early === '', why: early, frozenMs })
}

/** A crash of everything may have left file systems frozen, and a frozen agent answers hardly anything. */
async function thawEarlier(talk: AgentTalk, order: GuardOrder): Promise<void> {
  try {
    if ((await talk.execute('guest-fsfreeze-status', order.answerMs)) === 'frozen')
      await talk.execute('guest-fsfreeze-thaw', order.answerMs)
  } catch (error) {
    // A command that is switched off is told of by `freezeObstacle`.
    if (!(error instanceof AgentRefusal)) throw error
  }
}

/** Free space becomes holes, so that it need not be read. A guest that cannot do it is no worse a guest. */
async function trim(talk: AgentTalk, facts: AgentFacts, order: GuardOrder): Promise<void> {
  if (!facts.commands.has('guest-fstrim')) return
  try {
    await talk.execute('guest-fstrim', order.trimMs, { minimum: TRIM_BYTES_MIN })
  } catch (error) {
    // The agent does one thing after the other: one that trims still is given as long again, and cannot freeze before.
    if (error instanceof AgentSilence) await talk.sync(order.trimMs)
  }
}

function obstacle(facts: AgentFacts, order: GuardOrder): string {
  if (order.isForWindows && facts.os?.type !== 'Windows')
    return 'Programs in a running guest can put their data in order only under Windows. Shut the machine down first, or ask for less.'
  return freezeObstacle(facts)
}

/** Waits until the thaw is due, and thaws. '' only if all was frozen right before; else why not, perhaps not thawed. */
async function hold(talk: AgentTalk, frozenCount: number, order: GuardOrder): Promise<string> {
  const expiry = setTimeout(() => release.resolve('expired'), order.holdMs)
  const due = await release.promise
  clearTimeout(expiry)
  if (due === 'left') return 'The service ended before the moment was over.'
  if (due === 'expired') return `The moment was not over after ${order.holdMs} ms, so the guest was thawed.`
  try {
    if ((await talk.execute('guest-fsfreeze-status', order.answerMs)) !== 'frozen')
      return 'The guest thawed its file systems too early.'
    // Windows' agent refuses if VSS let go before it was told to; Linux' counts what it thawed.
    const thawedCount = Number(await talk.execute('guest-fsfreeze-thaw', order.answerMs))
    return thawedCount >= frozenCount ? '' : 'A file system was thawed too early by somebody in the guest.'
  } catch (error) {
    return agentFailure(error, 'did not thaw the file systems in time')
  }
}

/** Until the agent says that nothing is frozen, or QEMU has ended, however long that takes: nobody else may be left. */
async function thawSurely(first: AgentTalk, order: GuardOrder): Promise<void> {
  const hurryEnd = performance.now() + order.hurryMs
  let talk: AgentTalk | undefined = first
  while (true) {
    try {
      talk ??= await AgentTalk.open(order.agentPath)
      await talk.sync(order.answerMs)
      if ((await talk.execute('guest-fsfreeze-status', order.answerMs)) === 'thawed') return
      await talk.execute('guest-fsfreeze-thaw', order.answerMs)
      if ((await talk.execute('guest-fsfreeze-status', order.answerMs)) === 'thawed') return
    } catch (error) {
      if (error instanceof AgentGone) return
    }
    // Others, who may do better, are heard only when we hang up.
    talk?.close()
    talk = undefined
    await sleep(performance.now() < hurryEnd ? RETRY_MS : RETRY_SLOWLY_MS)
  }
}

function say(word: GuardWord): void {
  try {
    writeSync(1, `${JSON.stringify(word)}\n`)
  } catch {
    // The service is not there any more; what is left to do is the same.
  }
}
