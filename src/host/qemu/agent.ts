import { setTimeout as sleep } from 'node:timers/promises'
import { isFault } from '../../image/fault.ts'
import type { Consistency, WantedConsistency } from '../contract.ts'
import { agentFailure, askFacts, freezeObstacle, frozenConsistency, type GuestOs } from './agent-facts.ts'
import { AgentGone, AgentRefusal, AgentSilence, AgentTalk } from './agent-talk.ts'
import type { GuardOrder } from './freeze-guard.ts'
import { Guard, type Thaw } from './guard.ts'
import type { Qmp } from './qmp.ts'

export type { GuestOs } from './agent-facts.ts'

export interface AgentOptions {
  /** A conversation with the guest's QEMU; it may go on meanwhile. */
  readonly qmp: Pick<Qmp, 'execute'>
  readonly agentPath: string
  readonly signal: AbortSignal
}

export interface FreezeOptions extends AgentOptions {
  readonly wanted: WantedConsistency
  /** Whether free space is to become holes before, so that it need not be read; the guest writes a little for it. */
  readonly isTrimming: boolean
  /** When this comes the guest is about to be cut off: nobody waits for its thaw any more. */
  readonly cutOff: AbortSignal
  /** Other times than the usual ones, for tests. */
  readonly times?: Partial<FreezeTimes>
}

export interface FreezeTimes extends Omit<GuardOrder, 'agentPath' | 'isForWindows' | 'isTrimming'> {
  /** How long the end of a freeze is waited for once it was asked for; whatever is left then goes on by itself. */
  readonly releaseMs: number
}

export interface Freeze {
  readonly isFrozen: boolean
  /** What the disks are worth if `thaw` answers `heldAll`; without it, and without a freeze, 'crash'. */
  readonly consistency: Consistency
  /** Why it is not more than that, for people; '' where it is the most that a running guest can have. */
  readonly why: string
  readonly os?: GuestOs
  /**
   * Ends the freeze, and may be called again; never throws. A guest that does not answer is thawed later, without
   * anybody having to wait.
   */
  thaw(): Promise<Thaw>
}

/** What `outlookOf` answers: as `Freeze`, without one. */
export type AgentOutlook = Pick<Freeze, 'consistency' | 'why' | 'os'>

/** A busy guest under software emulation takes seconds for what others do at once. */
const TIMES: FreezeTimes = {
  syncMs: 5_000,
  answerMs: 5_000,
  trimMs: 30_000,
  freezeMs: 30_000,
  holdMs: 10_000,
  hurryMs: 600_000,
  releaseMs: 15_000,
}

const RETRY_MS = 200
const GUARD_DIED = 'The process that guards a freeze did not work.'
const INSTALL =
  "Install the package 'qemu-guest-agent' in the guest and start it, for more than the state after a power cut."

/**
 * Freezes the file systems of a running guest through its agent. Never throws for a guest without an agent, or with one
 * that fails: then nothing is held frozen and `why` says what to do. The caller calls `thaw` as soon as the moment is
 * over, or at once; should it die, forget or hang, a process of its own thaws.
 *
 * 'crash' asks nothing of the guest. File systems that no guest can freeze (FAT) are not among the frozen ones.
 */
export async function freezeGuest(options: FreezeOptions): Promise<Freeze> {
  const { wanted, isTrimming, signal, cutOff, agentPath } = options
  signal.throwIfAborted()
  if (wanted === 'crash') return notFrozen('Nothing more was asked for.')
  const why = await unreachable(options.qmp)
  if (why !== '') return notFrozen(why)
  signal.throwIfAborted()
  const { releaseMs, ...times } = { ...TIMES, ...options.times }
  const order = { agentPath, isForWindows: wanted === 'application', isTrimming, ...times }
  const guard = new Guard(order, { releaseMs, cutOff, thaw: (end) => thawUntil(agentPath, end) })
  const letGo = () => guard.letGo()
  signal.addEventListener('abort', letGo, { once: true })
  try {
    const word = await guard.firstWord
    const thawed = signal.aborted || word?.says !== 'frozen' ? await guard.released() : undefined
    signal.throwIfAborted()
    if (word?.says !== 'frozen') {
      const [why, os] = word?.says === 'refused' ? [word.why, word.os] : [GUARD_DIED, undefined]
      return notFrozen(why, os, thawed?.isThawed)
    }
    return {
      isFrozen: true,
      consistency: frozenConsistency(word.os),
      why: '',
      ...(word.os && { os: word.os }),
      thaw: () => guard.released(),
    }
  } finally {
    signal.removeEventListener('abort', letGo)
  }
}

/** What a running guest could have now. Changes nothing in it; never throws for one without a working agent. */
export async function outlookOf(options: AgentOptions): Promise<AgentOutlook> {
  options.signal.throwIfAborted()
  const obstacle = await unreachable(options.qmp)
  if (obstacle !== '') return { consistency: 'crash', why: obstacle }
  let talk: AgentTalk | undefined
  try {
    talk = await AgentTalk.open(options.agentPath)
    await talk.sync(TIMES.syncMs)
    const facts = await askFacts(talk)
    const os = facts.os && { os: facts.os }
    const why = freezeObstacle(facts)
    return why === ''
      ? { consistency: frozenConsistency(facts.os), why, ...os }
      : { consistency: 'crash', why, ...os }
  } catch (error) {
    passAgents(error)
    return { consistency: 'crash', why: agentFailure(error, 'does not answer as it should') }
  } finally {
    talk?.close()
  }
}

/**
 * Takes away what a crash may have left of a freeze, in one try. 'gone': QEMU has ended, and the guest with it;
 * 'unknown' if nobody in the guest answers: it has no agent, or stands still.
 */
export async function thawIfFrozen(
  options: AgentOptions,
): Promise<'thawed' | 'was-thawed' | 'gone' | 'unknown'> {
  options.signal.throwIfAborted()
  if ((await unreachable(options.qmp)) !== '') return 'unknown'
  return await thawOnce(options.agentPath, options.signal)
}

/** Tries until nothing can be frozen any more; false if `end` came first. */
async function thawUntil(agentPath: string, end: AbortSignal): Promise<boolean> {
  while (!end.aborted) {
    if ((await thawOnce(agentPath, end)) !== 'unknown') return true
    await sleep(RETRY_MS, undefined, { signal: end }).catch(() => {})
  }
  return false
}

/** 'unknown' also if `end` comes before the answer. */
async function thawOnce(agentPath: string, end: AbortSignal): ReturnType<typeof thawIfFrozen> {
  let talk: AgentTalk | undefined
  const hangUp = () => talk?.close()
  end.addEventListener('abort', hangUp, { once: true })
  try {
    talk = await AgentTalk.open(agentPath)
    if (end.aborted) return 'unknown'
    await talk.sync(TIMES.syncMs)
    if ((await talk.execute('guest-fsfreeze-status', TIMES.answerMs)) !== 'frozen') return 'was-thawed'
    await talk.execute('guest-fsfreeze-thaw', TIMES.answerMs)
    return 'thawed'
  } catch (error) {
    if (error instanceof AgentGone) return 'gone'
    passAgents(error)
    return 'unknown'
  } finally {
    end.removeEventListener('abort', hangUp)
    talk?.close()
  }
}

function passAgents(error: unknown): void {
  if (!(error instanceof AgentRefusal || error instanceof AgentSilence)) throw error
}

/** Why nobody in the guest could answer, which is known without waiting for it; '' if somebody should. */
async function unreachable(qmp: Pick<Qmp, 'execute'>): Promise<string> {
  try {
    const { running } = (await qmp.execute('query-status')) as { running: boolean }
    if (!running) return 'The guest stands still, so its agent cannot answer.'
    const channels = (await qmp.execute('query-chardev')) as { label: string; 'frontend-open': boolean }[]
    const isOpen = channels.some((one) => one.label === 'agent' && one['frontend-open'])
    return isOpen ? '' : `No guest agent runs in the machine. ${INSTALL}`
  } catch (error) {
    if (!isFault(error)) throw error
    return 'The hypervisor does not answer, so the guest agent was not asked.'
  }
}

function notFrozen(why: string, os?: GuestOs, isThawed = true): Freeze {
  const thaw = async () => ({ heldAll: false, frozenMs: 0, why, isThawed })
  return { isFrozen: false, consistency: 'crash', why, ...(os && { os }), thaw }
}
