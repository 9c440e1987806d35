import type { Outlook } from '../host/contract.ts'
import { isEnough, type WantedConsistency } from '../image/consistency.ts'
import { Fault } from '../image/fault.ts'

/**
 * Fault 'conflict' 'machine' reason 'consistency', which says why and what to do, where the outlook of a capture is less
 * than what is wanted; undefined where it is enough.
 */
export function consistencyRefusal(
  wanted: WantedConsistency,
  outlook: Pick<Outlook, 'consistency' | 'consistencyWhy'> & Partial<Pick<Outlook, 'power'>>,
): Fault | undefined {
  const { consistency } = outlook
  // The host has said what a machine that is off already would need.
  const advice = outlook.power === 'stopped' ? 'Or ask' : 'Shut the machine down first, or ask'
  if (isEnough(consistency, wanted)) return undefined
  return new Fault(
    'conflict',
    `Consistency '${wanted}' cannot be had now, only '${consistency}'. ` +
      `${whyOf(outlook)} ${advice} for less.`,
    { subject: 'machine', reason: 'consistency' },
  )
}

/** A host that does not say why has nothing against the guest: the level is the most that such a guest can give. */
function whyOf({ consistency, consistencyWhy }: Parameters<typeof consistencyRefusal>[1]): string {
  const why = consistencyWhy.trim()
  if (why !== '') return /[.!?]$/.test(why) ? why : `${why}.`
  return consistency === 'filesystem'
    ? "A running Linux guest with the guest agent reaches 'filesystem', and no more."
    : "A running guest without the guest agent reaches 'crash', and no more."
}
