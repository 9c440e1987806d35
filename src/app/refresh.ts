import { isFault } from '../image/fault.ts'
import type { Machine } from '../image/machine.ts'
import type { Parts } from './parts.ts'

/** A guest may have switched itself off; its row learns of it when somebody looks. */
export async function refreshMachine(
  { catalog, host }: Pick<Parts, 'catalog' | 'host'>,
  machine: Machine,
): Promise<Machine> {
  if (machine.state !== 'running' || !host.traits.starts) return machine
  try {
    if ((await host.power(machine.id)) === 'running') return machine
  } catch (error) {
    // One machine that the host cannot judge must not keep all others from being listed.
    if (isFault(error)) return machine
    throw error
  }
  const changed = await catalog.rows
    .updateTable('machine')
    .set({ state: 'stopped' })
    .where('id', '=', machine.id)
    .where('state', '=', 'running')
    .executeTakeFirst()
  return changed.numUpdatedRows > 0n ? { ...machine, state: 'stopped' } : machine
}
