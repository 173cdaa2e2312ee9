package blockdev

import "time"

// What links carry in practice, in bytes per second: measured ones reach about
// four fifths of the wire, USB 2 less because it asks for every packet.
const (
	usb2Mbit  = 480
	usb2Bytes = 38 << 20
	usb1Mbit  = 12
	usb1Bytes = 1 << 20
)

// SlowLink says that a disk hangs on a link that is slower than any disk, and how
// long so many bytes take over it.
func SlowLink(linkMbit int, bytes int64) (takes time.Duration, slow bool) {
	switch {
	case linkMbit == 0 || linkMbit > usb2Mbit:
		return 0, false
	case linkMbit <= usb1Mbit:
		return time.Duration(float64(bytes) / usb1Bytes * float64(time.Second)), true
	}
	return time.Duration(float64(bytes) / usb2Bytes * float64(time.Second)), true
}
