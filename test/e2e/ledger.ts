import assert from 'node:assert/strict'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import type { KeyPair } from '../../demo/clients.ts'
import { ACTIONS } from '../../src/app/actions.ts'
import { routes } from '../../src/wire/native/routes/index.ts'
import { actionOf } from '../../src/wire/uhost/operation.ts'
import { OPERATIONS as UHOST } from '../../src/wire/uhost/operations/index.ts'
import { OPERATIONS as WUYING } from '../../src/wire/wuying/operations/index.ts'
import { type Person, personOf, type SmallPlace } from './small-place.ts'
import type { NativeCall } from './valid-calls.ts'
import type { Answer, Door, Flat } from './wire.ts'

/** What came of a call, in the words of an audit record: 'done', or a fault's kind and subject. */
export type Outcome = 'done' | `${'denied' | 'absent' | 'conflict'} ${string}`

export interface Entry {
  readonly door: Door
  readonly action: string
  readonly outcome: string
}

/** Calls whose outcome is asserted in the words of their door; every changing one is written down. */
export interface Clerk {
  wuying(operation: string, parameters: Flat, outcome: Outcome): Promise<Answer>
  uhost(operation: string, parameters: Flat, outcome: Outcome): Promise<Answer>
  /** `route` is a method and pattern of the route table. */
  native(route: string, call: NativeCall, outcome: Outcome): Promise<Answer>
}

export interface Ledger {
  readonly entries: Entry[]
  clerk(key: KeyPair): Clerk
}

const isOnlyLooking = /^(Describe|Get)/
const UHOST_CODES: Readonly<Record<string, readonly number[]>> = {
  'absent project': [292],
  'absent image': [8956, 8846, 8971],
  'absent machine': [8039],
  'conflict machine': [8905, 8856, 8010],
}
const WUYING_CODES: Readonly<Record<string, readonly [number, string]>> = {
  'absent image': [404, 'InvalidImageId.NotFound'],
  'absent machine': [404, 'InvalidDesktopId.NotFound'],
  'conflict machine': [400, 'IncorrectDesktopStatus'],
}
const NATIVE_STATUS = { denied: 403, absent: 404, conflict: 409 } as const

function assertWuying({ status, json, text }: Answer, action: string, outcome: Outcome): void {
  if (outcome === 'done') {
    assert.equal(status, 200, text)
    return
  }
  if (!outcome.startsWith('denied')) {
    assert.deepEqual([status, json.Code], WUYING_CODES[outcome], `${outcome}: ${text}`)
    return
  }
  assert.deepEqual([status, json.Code], [403, 'NoPermission'], text)
  const detail = json.AccessDeniedDetail as Record<string, string>
  assert.equal(detail.AuthAction, action)
  assert.match(String(detail.NoPermissionType), /^(Explicit|Implicit)Deny$/)
  assert.ok(String(json.Message).includes(action), text)
}

function assertUhost({ json, text }: Answer, outcome: Outcome): void {
  if (outcome === 'done') {
    assert.equal(json.RetCode, 0, text)
    return
  }
  const codes = outcome.startsWith('denied') ? [299] : (UHOST_CODES[outcome] ?? [])
  assert.ok(codes.includes(Number(json.RetCode)), `${outcome}: ${text}`)
}

function assertNative({ status, json, text }: Answer, expected: number, outcome: Outcome): void {
  if (outcome === 'done') {
    assert.equal(status, expected, text)
    return
  }
  const { kind, subject } = (json.error ?? {}) as { kind?: keyof typeof NATIVE_STATUS; subject?: string }
  assert.equal(`${kind} ${subject}`, outcome, text)
  assert.equal(status, kind === undefined ? 0 : NATIVE_STATUS[kind], text)
}

export function openLedger(place: SmallPlace): Ledger {
  const entries: Entry[] = []
  const note = (isChange: boolean, entry: Entry) => {
    if (isChange) entries.push(entry)
  }
  return {
    entries,
    clerk(key) {
      const person: Person = personOf(place, key)
      return {
        async wuying(name, parameters, outcome) {
          const action = WUYING.find((operation) => operation.name === name)?.action ?? ''
          const answer = await person.wuying(name, parameters)
          assertWuying(answer, action, outcome)
          note(!isOnlyLooking.test(name), { door: 'wuying', action, outcome })
          return answer
        },
        async uhost(name, parameters, outcome) {
          const operation = UHOST.find((one) => one.name === name)
          const action = (operation && actionOf(operation)) ?? ''
          const answer = await person.uhost(name, parameters)
          assertUhost(answer, outcome)
          note(!isOnlyLooking.test(name), { door: 'uhost', action, outcome })
          return answer
        },
        async native(name, { path, query, body }, outcome) {
          const route = routes.find((one) => `${one.method} ${one.path}` === name)
          assert(route !== undefined, name)
          const given = { ...(query && { query }), ...(body && { body }) }
          const answer = await person.native(route.method, path, given)
          assertNative(answer, route.status, outcome)
          const { native: action } = ACTIONS[route.useCase] as { readonly native?: string }
          assert(action !== undefined, name)
          note(route.method !== 'GET', { door: 'native', action, outcome })
          return answer
        },
      }
    },
  }
}

/** The audit records as a stopped server left them, in their order. */
export function auditOf(data: string): Entry[] {
  const database = new DatabaseSync(join(data, 'catalog.db'), { readOnly: true })
  try {
    const rows = database
      .prepare('select door, action, outcome, userId, requestId from audit order by id')
      .all()
    for (const row of rows) {
      assert.match(String(row.requestId), /^[0-9A-F-]{36}$/)
      assert.ok(String(row.userId).length > 0)
    }
    return rows.map(({ door, action, outcome }) => ({
      door: door as Door,
      action: String(action),
      outcome: String(outcome),
    }))
  } finally {
    database.close()
  }
}
