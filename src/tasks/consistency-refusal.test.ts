import assert from 'node:assert/strict'
import { test } from 'node:test'
import { consistencyRefusal } from './consistency-refusal.ts'

test('what is enough is refused by nothing', () => {
  const outlook = { consistency: 'filesystem', consistencyWhy: '' } as const
  for (const wanted of ['best', 'crash', 'filesystem'] as const) {
    assert.equal(consistencyRefusal(wanted, outlook), undefined)
  }
})

test('a refusal says why and what to do, whether or not the host did', () => {
  const messageOf = (consistency: 'crash' | 'filesystem', consistencyWhy: string) => {
    const fault = consistencyRefusal('application', { consistency, consistencyWhy })
    assert.deepEqual([fault?.kind, fault?.subject, fault?.reason], ['conflict', 'machine', 'consistency'])
    return fault?.message
  }
  assert.equal(
    messageOf('filesystem', ''),
    "Consistency 'application' cannot be had now, only 'filesystem'. A running Linux guest with the guest agent " +
      "reaches 'filesystem', and no more. Shut the machine down first, or ask for less.",
  )
  assert.equal(
    messageOf('filesystem', 'There is no VSS'),
    "Consistency 'application' cannot be had now, only 'filesystem'. There is no VSS. " +
      'Shut the machine down first, or ask for less.',
  )
  const off = {
    power: 'stopped',
    consistency: 'crash',
    consistencyWhy: 'Start it and shut it down.',
  } as const
  assert.match(
    consistencyRefusal('filesystem', off)?.message ?? '',
    /'crash'\. Start it and shut it down\. Or ask for less\.$/,
  )
  assert.match(messageOf('crash', '') ?? '', /only 'crash'\. A running guest without/)
})
