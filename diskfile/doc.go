// Package diskfile opens disk images and block devices as disks to read, and
// makes them as disks to restore onto.
//
// It promises never to guess a format from bytes that a guest wrote, never to
// read a disk that a running machine is writing, and to leave no helper process
// behind. Raw images and devices it reads and writes itself; the others go
// through QEMU's own tools.
package diskfile
