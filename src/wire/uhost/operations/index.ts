import type { Operation } from '../operation.ts'
import { copyCustomImage } from './copy-custom-image.ts'
import { createCustomImage } from './create-custom-image.ts'
import { createUHostInstance } from './create-uhost-instance.ts'
import { describeImage } from './describe-image.ts'
import { describeUHostInstance } from './describe-uhost-instance.ts'
import { getImageCopyProgress } from './get-image-copy-progress.ts'
import { getProjectList } from './get-project-list.ts'
import { getRegion } from './get-region.ts'
import { importCustomImage } from './import-custom-image.ts'
import { poweroffUHostInstance } from './poweroff-uhost-instance.ts'
import { startUHostInstance } from './start-uhost-instance.ts'
import { stopUHostInstance } from './stop-uhost-instance.ts'
import { terminateCustomImage } from './terminate-custom-image.ts'
import { terminateUHostInstance } from './terminate-uhost-instance.ts'

/** Every Action that this door serves. */
export const OPERATIONS: readonly Operation[] = [
  getRegion,
  getProjectList,
  describeImage,
  createCustomImage,
  importCustomImage,
  copyCustomImage,
  getImageCopyProgress,
  terminateCustomImage,
  createUHostInstance,
  describeUHostInstance,
  startUHostInstance,
  stopUHostInstance,
  poweroffUHostInstance,
  terminateUHostInstance,
]
