import { createHash } from 'node:crypto'
import openApi from '@alicloud/openapi-client'

export interface KeyPair {
  readonly accessKeyId: string
  readonly accessKeySecret: string
}

/** One cloud's API: an operation's name and parameters in, its answer out; throws what the cloud's client throws. */
export type Call = (action: string, parameters: Record<string, unknown>) => Promise<Record<string, unknown>>

// The package is CommonJS: its classes are members of what `import` sees as the default export.
const {
  default: OpenApiClient,
  Config,
  OpenApiRequest,
  Params,
} = openApi as unknown as typeof import('@alicloud/openapi-client')

/** `Tag: [{Key}]` → `Tag.1.Key`: lists count from 1. */
function flatten(value: unknown, name: string, into: Record<string, string>): Record<string, string> {
  if (Array.isArray(value)) value.forEach((item, i) => void flatten(item, `${name}.${i + 1}`, into))
  else if (typeof value === 'object' && value !== null) {
    for (const [key, item] of Object.entries(value)) flatten(item, name === '' ? key : `${name}.${key}`, into)
  } else if (value !== undefined) into[name] = String(value)
  return into
}

/** WUYING through Alibaba Cloud's own client, as its generated packages call it: V3 signature, POST, JSON. */
export function wuyingClient(endpoint: URL, key: KeyPair): Call {
  const client = new OpenApiClient(
    new Config({ ...key, endpoint: endpoint.host, protocol: 'HTTP', regionId: 'cn-hangzhou' }),
  )
  return async (action, parameters) => {
    const answer = await client.callApi(
      new Params({
        action,
        version: '2020-09-30',
        protocol: 'HTTP',
        pathname: '/',
        method: 'POST',
        authType: 'AK',
        style: 'RPC',
        reqBodyType: 'formData',
        bodyType: 'json',
      }),
      new OpenApiRequest({ query: flatten(parameters, '', {}) }),
      new (await import('@alicloud/tea-util')).RuntimeOptions({ readTimeout: 30_000, connectTimeout: 5_000 }),
    )
    return answer.body as Record<string, unknown>
  }
}

export class UHostError extends Error {
  readonly retCode: number
  constructor(action: string, retCode: number, message: string) {
    super(`${action}: RetCode ${retCode}: ${message}`)
    this.retCode = retCode
  }
}

/**
 * UHost as its SDKs speak: a POST form, signed by SHA-1 over the sorted names and values and the private key.
 * Its official JavaScript SDK is not in the npm registry. Source: the cloud's signature page.
 */
export function uhostClient(endpoint: URL, key: KeyPair): Call {
  return async (action, parameters) => {
    const form: Record<string, string> = { Action: action, PublicKey: key.accessKeyId }
    for (const [name, value] of Object.entries(parameters)) {
      if (Array.isArray(value)) {
        for (const [i, item] of value.entries()) {
          if (typeof item !== 'object') form[`${name}.${i}`] = String(item)
          else
            for (const [field, inner] of Object.entries(item)) form[`${name}.${i}.${field}`] = String(inner)
        }
      } else if (value !== undefined) form[name] = String(value)
    }
    const names = Object.keys(form).sort((a, b) => (a < b ? -1 : 1))
    const text = names.map((name) => name + form[name]).join('') + key.accessKeySecret
    form.Signature = createHash('sha1').update(text).digest('hex')
    // As the newer Go client: servers may be set to ask for it (`uhostReplayWindowSeconds`).
    const headers = { 'U-Timestamp-Ms': String(Date.now()) }
    const response = await fetch(endpoint, { method: 'POST', headers, body: new URLSearchParams(form) })
    const answer = (await response.json()) as Record<string, unknown>
    if (answer.RetCode !== 0) throw new UHostError(action, Number(answer.RetCode), String(answer.Message))
    return answer
  }
}
