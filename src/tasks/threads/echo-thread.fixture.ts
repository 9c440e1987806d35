import { setTimeout as delay } from 'node:timers/promises'
import { Fault } from '../../image/fault.ts'
import { inThread } from './thread.ts'

/** A thread for tests: does what it is told. */
inThread(async (what: { readonly say?: string; readonly fail?: string; readonly wait?: true }, options) => {
  const { signal, tell } = options
  if (what.say !== undefined) tell(what.say)
  if (what.fail !== undefined) throw new Fault('full', what.fail, { subject: 'store' })
  if (what.wait === true) await delay(600_000, undefined, { signal })
  return { said: what.say }
})
