import { sql } from 'kysely'
import type { MachineId } from '../image/ids.ts'
import type { TaskParts } from './parts.ts'

/**
 * Lets go of what a capture left open on a machine because the host did not answer when it ended: its content was taken,
 * and only who asks the host next can say so. Nobody else has the machine's disks open meanwhile.
 */
export async function closeForgotten(
  { catalog, host }: Pick<TaskParts, 'catalog' | 'host'>,
  machineId: MachineId,
): Promise<void> {
  const tasks = await catalog.rows
    .selectFrom('task')
    .select(['id', 'output'])
    .where('machineId', '=', machineId)
    .where('endedAtMs', 'is not', null)
    .where('kind', 'in', ['capture-image', 'create-snapshot'])
    .where(sql<boolean>`${sql.ref('output')} like '%"isReleased":false%'`)
    .execute()
  for (const { id, output } of tasks) {
    await host.closeExports(machineId, id, 'taken')
    await catalog.rows
      .updateTable('task')
      .set({ output: JSON.stringify({ ...JSON.parse(output), isReleased: true }) })
      .where('id', '=', id)
      .execute()
  }
}
