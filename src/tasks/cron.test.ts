import assert from 'node:assert/strict'
import { test } from 'node:test'
import { checkTimes, lastDueMs, nextDueMs, stampOf } from './cron.ts'

const at = (text: string) => Date.parse(text)
const iso = (ms: number | undefined) => (ms === undefined ? undefined : new Date(ms).toISOString())
const NIGHTLY = { cron: '0 3 * * *', timeZone: 'UTC' }

test('the next time is after a moment, the last one up to and with it', () => {
  assert.equal(iso(nextDueMs(NIGHTLY, at('2026-01-01T02:59:59.999Z'))), '2026-01-01T03:00:00.000Z')
  assert.equal(iso(nextDueMs(NIGHTLY, at('2026-01-01T03:00:00Z'))), '2026-01-02T03:00:00.000Z')
  assert.equal(iso(lastDueMs(NIGHTLY, at('2026-01-01T03:00:00Z'))), '2026-01-01T03:00:00.000Z')
  assert.equal(iso(lastDueMs(NIGHTLY, at('2026-01-01T02:59:59.999Z'))), '2025-12-31T03:00:00.000Z')
})

test('the clock is that of the zone, through summer time and back', () => {
  const hongKong = { cron: '30 1 * * 1', timeZone: 'Asia/Hong_Kong' }
  assert.equal(iso(nextDueMs(hongKong, at('2026-01-01T00:00:00Z'))), '2026-01-04T17:30:00.000Z')
  const berlin = { cron: '30 2 * * *', timeZone: 'Europe/Berlin' }
  // 02:30 is left out that night: the first moment after the gap is 03:00 in summer time.
  assert.equal(iso(nextDueMs(berlin, at('2026-03-28T12:00:00Z'))), '2026-03-29T01:00:00.000Z')
  // And it comes twice that night.
  assert.equal(iso(nextDueMs(berlin, at('2026-10-24T12:00:00Z'))), '2026-10-25T00:30:00.000Z')
  assert.equal(iso(nextDueMs(berlin, at('2026-10-25T00:30:00Z'))), '2026-10-26T01:30:00.000Z')
  assert.equal(stampOf('Asia/Hong_Kong', at('2026-01-04T17:30:59Z')), '20260105-0130')
  assert.equal(stampOf('UTC', at('2026-01-04T00:05:00Z')), '20260104-0005')
})

test('what cannot be read, or never comes, is refused with the field', () => {
  checkTimes(NIGHTLY, 0)
  checkTimes({ cron: '*/15 8-18 * JAN-JUN MON-FRI', timeZone: 'America/Argentina/Buenos_Aires' }, 0)
  checkTimes({ cron: '0 0 L * *', timeZone: 'Etc/GMT+5' }, 0)
  const refused = (times: { cron?: string; timeZone?: string }, field: string) =>
    assert.throws(() => checkTimes({ ...NIGHTLY, ...times }, at('2026-01-01T00:00:00Z')), {
      ...{ name: 'Fault', kind: 'invalid', field },
    })
  for (const cron of ['', '@daily', '0 3 * *', '0 0 3 * * *', '2030-01-23T00:00:00', '61 0 * * *']) {
    refused({ cron }, 'cron')
  }
  for (const cron of ['0 0 31 2 *', 'a b c d e', `${'0,'.repeat(100)}0 * * * *`]) refused({ cron }, 'cron')
  for (const timeZone of ['', 'Mars/Olympus', '+08:00', 'UTC\n']) refused({ timeZone }, 'timeZone')
})
