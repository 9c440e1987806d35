import type { Operation } from '../operation.ts'
import { cancelCopyImage } from './cancel-copy-image.ts'
import { copyImage } from './copy-image.ts'
import { createDesktops } from './create-desktops.ts'
import { createImage } from './create-image.ts'
import { createSnapshot } from './create-snapshot.ts'
import { deleteDesktops } from './delete-desktops.ts'
import { deleteImages } from './delete-images.ts'
import { deleteSnapshot } from './delete-snapshot.ts'
import { describeDesktops } from './describe-desktops.ts'
import { describeImages } from './describe-images.ts'
import { describeRegions } from './describe-regions.ts'
import { describeSnapshots } from './describe-snapshots.ts'
import { resetSnapshot } from './reset-snapshot.ts'
import { startDesktops } from './start-desktops.ts'
import { stopDesktops } from './stop-desktops.ts'
import { uploadImage } from './upload-image.ts'

/** Every operation of this door, in the order of the reference. */
export const OPERATIONS: readonly Operation[] = [
  describeRegions,
  createDesktops,
  describeDesktops,
  startDesktops,
  stopDesktops,
  deleteDesktops,
  createImage,
  uploadImage,
  copyImage,
  cancelCopyImage,
  describeImages,
  deleteImages,
  createSnapshot,
  describeSnapshots,
  deleteSnapshot,
  resetSnapshot,
]
