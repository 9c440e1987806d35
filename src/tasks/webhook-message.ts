import { createHmac } from 'node:crypto'
import type { Message } from '../intake/sender.ts'

/** `t=SECONDS,v1=HEX`: HMAC-SHA-256 of `SECONDS.BODY` with the webhook's secret. Source: docs/copies.md, "Events". */
export function signMessage(secret: string, body: Uint8Array, nowMs: number): string {
  const seconds = Math.floor(nowMs / 1000)
  const hmac = createHmac('sha256', secret).update(`${seconds}.`).update(body)
  return `t=${seconds},v1=${hmac.digest('hex')}`
}

/** An event on its way to a webhook. Each attempt is signed anew, so that a receiver may refuse what is old. */
export function messageOf(
  told: { readonly eventId: number; readonly webhookId: string; readonly body: object },
  secret: string,
  nowMs: number,
): Message {
  const body = Buffer.from(JSON.stringify(told.body))
  return {
    headers: {
      'Content-Type': 'application/json',
      'User-Agent': 'calotype',
      'Calotype-Event': String(told.eventId),
      'Calotype-Webhook': told.webhookId,
      'Calotype-Signature': signMessage(secret, body, nowMs),
    },
    body,
  }
}
