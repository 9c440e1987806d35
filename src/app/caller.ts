import type { Dialect, ProjectId } from '../image/ids.ts'

/** Who asks, once the door has checked the signature. The door says in whose words; `app` says what is allowed. */
export interface Caller {
  readonly accountId: string
  readonly userId: string
  readonly userName: string
  readonly isRoot: boolean
  /** The project meant when the request names none. */
  readonly defaultProjectId: ProjectId
  readonly door: Dialect
  readonly requestId: string
  readonly sourceIp: string
  readonly secureTransport: boolean
}
