package nbd

import (
	"errors"
	"fmt"
	"io"
)

// Errno is an error number as the protocol sends it. The numbers are those of
// Linux, and comparing with errors.Is against one of the constants works.
type Errno uint32

// The error numbers of the protocol.
const (
	EPERM     Errno = 1
	EIO       Errno = 5
	ENOMEM    Errno = 12
	EINVAL    Errno = 22
	ENOSPC    Errno = 28
	EOVERFLOW Errno = 75
	ENOTSUP   Errno = 95
	ESHUTDOWN Errno = 108
)

var errnoNames = map[Errno]string{
	EPERM:     "not permitted (EPERM)",
	EIO:       "input/output error (EIO)",
	ENOMEM:    "out of memory (ENOMEM)",
	EINVAL:    "invalid request (EINVAL)",
	ENOSPC:    "no space left (ENOSPC)",
	EOVERFLOW: "too much at once (EOVERFLOW)",
	ENOTSUP:   "not supported (ENOTSUP)",
	ESHUTDOWN: "the server is shutting down (ESHUTDOWN)",
}

// Error names the error.
func (e Errno) Error() string {
	if name, ok := errnoNames[e]; ok {
		return name
	}
	return fmt.Sprintf("error %d", uint32(e))
}

// Errors that callers branch on.
var (
	// ErrGone: the server closed the connection or the connection broke. It
	// wraps io.ErrUnexpectedEOF.
	ErrGone = fmt.Errorf("the disk server went away: %w", io.ErrUnexpectedEOF)
	// ErrProtocol: the peer sent something that the protocol does not allow.
	ErrProtocol = errors.New("the other end broke the block device protocol")
	// ErrNoExport: the server has no export of that name.
	ErrNoExport = errors.New("the disk server has no such disk")
	// ErrNoContext: the server did not offer that metadata context.
	ErrNoContext = errors.New("the disk server does not offer that context")
	// ErrClosed: the client was closed.
	ErrClosed = errors.New("the connection to the disk server was closed")
)
