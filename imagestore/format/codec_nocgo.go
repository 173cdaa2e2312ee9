//go:build !cgo

package format

var codec zstdCodec = goZstd{}
