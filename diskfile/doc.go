// Package diskfile opens disk images and block devices as disks to read, and
// makes them as disks to restore onto.
//
// It promises never to take the format of a disk from bytes that a guest wrote
// alone, never to read a disk that a machine of this host is writing, never to
// read files that an image refers to unless it was told that it may, and to
// leave no helper process behind. Raw images and devices it reads and writes
// itself; the others go through QEMU's own tools.
package diskfile
