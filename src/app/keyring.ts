import { Fault } from '../image/fault.ts'
import { parseProjectId } from '../image/ids.ts'
import type { Keyring } from './contract.ts'
import type { Parts } from './parts.ts'

const SWEEP_EVERY = 256

/** Keys and nonces as the catalog keeps them. */
export function createKeyring({ catalog, clock }: Pick<Parts, 'catalog' | 'clock'>): Keyring {
  let useCount = 0
  return {
    async find(keyId) {
      const key = await catalog.rows
        .selectFrom('accessKey')
        .selectAll()
        .where('id', '=', keyId)
        .executeTakeFirst()
      return key === undefined
        ? undefined
        : { secret: key.secret, isActive: key.isActive === 1, userId: key.userId }
    },
    async useNonce(keyId, nonce, expiresAtMs) {
      const nowMs = clock()
      if (useCount++ % SWEEP_EVERY === 0) {
        await catalog.rows.deleteFrom('nonce').where('expiresAtMs', '<', nowMs).execute()
      }
      const result = await catalog.rows
        .insertInto('nonce')
        .values({ keyId, nonce, expiresAtMs })
        .onConflict((on) =>
          on.columns(['keyId', 'nonce']).doUpdateSet({ expiresAtMs }).where('nonce.expiresAtMs', '<', nowMs),
        )
        .executeTakeFirst()
      return (result.numInsertedOrUpdatedRows ?? 0n) > 0n
    },
    async caller(userId, door, request) {
      const user = await catalog.rows
        .selectFrom('user')
        .selectAll()
        .where('id', '=', userId)
        .executeTakeFirst()
      if (user === undefined) throw new Fault('denied', 'The user of this key is gone.', { subject: 'user' })
      return {
        accountId: user.accountId,
        userId,
        userName: user.name,
        isRoot: user.isRoot === 1,
        defaultProjectId: parseProjectId(user.defaultProjectId),
        door,
        ...request,
      }
    },
  }
}
