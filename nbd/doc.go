// Package nbd speaks the network block device protocol, both ends of it: a
// server that gives out stored disks for machines to boot from, and a client
// that reads the disks of machines while they are copied.
//
// It promises that bytes which could not be read are an error at the other end
// and never zeros, that nothing a peer sends makes it use memory without bound,
// and that the end of a context ends everything it started. The server never
// changes a disk. What the bytes mean is none of its business.
package nbd
