import type { Fault } from '../image/fault.ts'
import type { WireAnswer } from './gateway-contract.ts'

export function jsonAnswer(status: number, value: unknown): WireAnswer {
  return {
    status,
    headers: { 'content-type': 'application/json; charset=utf-8' },
    body: `${JSON.stringify(value)}\n`,
  }
}

/** For what is refused before any door is known, in the shape of the native door's errors. */
export function plainRefusal(fault: Fault, requestId: string, status: number): WireAnswer {
  const { kind, subject, reason, message } = fault
  return jsonAnswer(status, {
    error: { kind, subject, ...(reason === undefined ? {} : { reason }), message, requestId },
  })
}

/** What this is and where to knock: the answer at the root to a request without any door's mark. */
export function indexAnswer(status: number): WireAnswer {
  return jsonAnswer(status, {
    service: 'calotype',
    about: 'A custom image service for cloud computers.',
    doors: {
      native: 'JSON under /v1, signed with ACS3-HMAC-SHA256',
      wuying: 'WUYING Workspace, version 2020-09-30, at / with an AccessKeyId or an ACS3 Authorization',
      uhost: 'UHost at / with Action and PublicKey',
    },
    health: '/healthz',
  })
}

/** A whole HTTP answer as bytes, for a socket whose request could not even be parsed. */
export function rawHttp(answer: WireAnswer, phrase: string): string {
  const body = answer.body.toString()
  const headers = Object.entries(answer.headers).map(([name, value]) => `${name}: ${value}\r\n`)
  return (
    `HTTP/1.1 ${answer.status} ${phrase}\r\n${headers.join('')}` +
    `content-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`
  )
}
