import type { Route } from '../route.ts'
import { consoleRoutes } from './console.ts'
import { copyRoutes } from './copies.ts'
import { eventRoutes } from './events.ts'
import { exportRoutes } from './exports.ts'
import { imageRoutes } from './images.ts'
import { importRoutes } from './imports.ts'
import { machineRoutes } from './machines.ts'
import { peerRoutes } from './peers.ts'
import { projectRoutes } from './projects.ts'
import { regionRoutes } from './regions.ts'
import { replicationRoutes } from './replication.ts'
import { snapshotPolicyRoutes } from './snapshot-policies.ts'
import { snapshotRoutes } from './snapshots.ts'
import { storeRoutes } from './store.ts'
import { taskRoutes } from './tasks.ts'
import { uploadRoutes } from './uploads.ts'
import { userRoutes } from './users.ts'
import { webhookRoutes } from './webhooks.ts'

/** Every route of the native door, in the order of docs/api.md. */
export const routes: readonly Route[] = [
  ...regionRoutes,
  ...projectRoutes,
  ...userRoutes,
  ...imageRoutes,
  ...copyRoutes,
  ...replicationRoutes,
  ...peerRoutes,
  ...importRoutes,
  ...uploadRoutes,
  ...exportRoutes,
  ...snapshotRoutes,
  ...snapshotPolicyRoutes,
  ...machineRoutes,
  ...consoleRoutes,
  ...taskRoutes,
  ...eventRoutes,
  ...webhookRoutes,
  ...storeRoutes,
]
