import type { ProjectId } from '../image/ids.ts'
import { PROJECT_KINDS, type TaskKind } from '../image/task.ts'
import type { WebhookRow } from '../tasks/webhook-row.ts'
import type { Caller } from './contract.ts'
import type { Guard } from './guard.ts'
import type { createKeyring } from './keyring.ts'

/**
 * Whoever is told of tasks could list them; of tasks of whole regions, those of all projects (I10). Faults: as `Guard.admit`.
 */
export async function admitTold(
  guard: Guard,
  caller: Caller,
  projectId: ProjectId,
  kinds: readonly TaskKind[],
): Promise<void> {
  await guard.admit(caller, 'events.list', {
    ...{ projectId, resource: 'task/*' },
    ...(kinds.every((kind) => PROJECT_KINDS.includes(kind)) ? {} : { reach: 'account' as const }),
  })
}

/** Whether a webhook may still be told, by the rights that whoever made it has now. Faults: 'denied'; 'absent' 'project'. */
export type WebhookAdmission = (
  row: Pick<WebhookRow, 'id' | 'projectId' | 'kinds' | 'caller'>,
) => Promise<void>

export function createWebhookAdmission(
  guard: Guard,
  keyring: Pick<ReturnType<typeof createKeyring>, 'caller'>,
): WebhookAdmission {
  return async ({ id, projectId, kinds, caller: kept }) => {
    const { userId, door, sourceIp, secureTransport } = JSON.parse(kept) as Caller
    const requestId = `webhook-${id}`
    const caller = await keyring.caller(userId, door, { requestId, sourceIp, secureTransport })
    await admitTold(guard, caller, projectId as ProjectId, JSON.parse(kinds) as TaskKind[])
  }
}
