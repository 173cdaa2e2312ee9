package nbd

import (
	"encoding/binary"
	"fmt"
)

// The messages of the protocol, each with one function that writes it and one
// that reads it. What a parser accepts, its writer gives back byte for byte.

var be = binary.BigEndian

const (
	requestBytes     = 28
	optionBytes      = 16
	optionReplyBytes = 20
	simpleReplyBytes = 16
	chunkBytes       = 20
)

// request is the header of a command.
type request struct {
	flags  uint16
	kind   uint16
	cookie uint64
	offset uint64
	length uint32
}

func (r request) appendTo(b []byte) []byte {
	b = be.AppendUint32(b, magicRequest)
	b = be.AppendUint16(b, r.flags)
	b = be.AppendUint16(b, r.kind)
	b = be.AppendUint64(b, r.cookie)
	b = be.AppendUint64(b, r.offset)
	return be.AppendUint32(b, r.length)
}

func parseRequest(b []byte) (request, error) {
	if len(b) != requestBytes || be.Uint32(b) != magicRequest {
		return request{}, fmt.Errorf("%w: not a request", ErrProtocol)
	}
	return request{
		flags:  be.Uint16(b[4:]),
		kind:   be.Uint16(b[6:]),
		cookie: be.Uint64(b[8:]),
		offset: be.Uint64(b[16:]),
		length: be.Uint32(b[24:]),
	}, nil
}

// option is the header of an option; its data follows.
type option struct {
	code   uint32
	length uint32
}

func (o option) appendTo(b []byte) []byte {
	b = be.AppendUint64(b, magicOption)
	b = be.AppendUint32(b, o.code)
	return be.AppendUint32(b, o.length)
}

func parseOption(b []byte) (option, error) {
	if len(b) != optionBytes || be.Uint64(b) != magicOption {
		return option{}, fmt.Errorf("%w: not an option", ErrProtocol)
	}
	return option{code: be.Uint32(b[8:]), length: be.Uint32(b[12:])}, nil
}

// optionReply is the header of an answer to an option; its data follows.
type optionReply struct {
	code   uint32
	kind   uint32
	length uint32
}

func (r optionReply) appendTo(b []byte) []byte {
	b = be.AppendUint64(b, magicOptReply)
	b = be.AppendUint32(b, r.code)
	b = be.AppendUint32(b, r.kind)
	return be.AppendUint32(b, r.length)
}

func parseOptionReply(b []byte) (optionReply, error) {
	if len(b) != optionReplyBytes || be.Uint64(b) != magicOptReply {
		return optionReply{}, fmt.Errorf("%w: not an answer to an option", ErrProtocol)
	}
	return optionReply{code: be.Uint32(b[8:]), kind: be.Uint32(b[12:]), length: be.Uint32(b[16:])}, nil
}

// infoRequest is the data of INFO and GO.
type infoRequest struct {
	export string
	kinds  []uint16
}

func (r infoRequest) appendTo(b []byte) []byte {
	b = appendString(b, r.export)
	b = be.AppendUint16(b, uint16(len(r.kinds)))
	for _, kind := range r.kinds {
		b = be.AppendUint16(b, kind)
	}
	return b
}

func parseInfoRequest(b []byte) (infoRequest, error) {
	var r infoRequest
	export, b, err := cutString(b)
	if err != nil {
		return r, err
	}
	if len(b) < 2 || len(b) != 2+2*int(be.Uint16(b)) {
		return r, fmt.Errorf("%w: a count that does not fit", ErrProtocol)
	}
	r.export = export
	for b = b[2:]; len(b) > 0; b = b[2:] {
		r.kinds = append(r.kinds, be.Uint16(b))
	}
	return r, nil
}

// metaRequest is the data of LIST_META_CONTEXT and SET_META_CONTEXT.
type metaRequest struct {
	export  string
	queries []string
}

func (r metaRequest) appendTo(b []byte) []byte {
	b = appendString(b, r.export)
	b = be.AppendUint32(b, uint32(len(r.queries)))
	for _, q := range r.queries {
		b = appendString(b, q)
	}
	return b
}

func parseMetaRequest(b []byte) (metaRequest, error) {
	var r metaRequest
	export, b, err := cutString(b)
	if err != nil {
		return r, err
	}
	if len(b) < 4 || be.Uint32(b) > maxQueries {
		return r, fmt.Errorf("%w: a count of queries that is missing or too large", ErrProtocol)
	}
	count := be.Uint32(b)
	b = b[4:]
	r.export = export
	for range count {
		var q string
		if q, b, err = cutString(b); err != nil {
			return r, err
		}
		r.queries = append(r.queries, q)
	}
	if len(b) != 0 {
		return r, fmt.Errorf("%w: bytes behind the last query", ErrProtocol)
	}
	return r, nil
}

// exportInfo is what GO and EXPORT_NAME tell about an export.
type exportInfo struct {
	sizeBytes uint64
	flags     uint16
}

func (i exportInfo) appendTo(b []byte) []byte {
	b = be.AppendUint64(b, i.sizeBytes)
	return be.AppendUint16(b, i.flags)
}

// blockSizes is how large requests may be and had better be.
type blockSizes struct {
	minimum   uint32
	preferred uint32
	maximum   uint32
}

func (s blockSizes) appendTo(b []byte) []byte {
	b = be.AppendUint32(b, s.minimum)
	b = be.AppendUint32(b, s.preferred)
	return be.AppendUint32(b, s.maximum)
}

// chunk is the header of one chunk of a structured reply; its payload follows.
type chunk struct {
	flags  uint16
	kind   uint16
	cookie uint64
	length uint32
}

func (c chunk) appendTo(b []byte) []byte {
	b = be.AppendUint32(b, magicChunk)
	b = be.AppendUint16(b, c.flags)
	b = be.AppendUint16(b, c.kind)
	b = be.AppendUint64(b, c.cookie)
	return be.AppendUint32(b, c.length)
}

func parseChunk(b []byte) (chunk, error) {
	if len(b) != chunkBytes || be.Uint32(b) != magicChunk {
		return chunk{}, fmt.Errorf("%w: not a chunk of a reply", ErrProtocol)
	}
	return chunk{
		flags:  be.Uint16(b[4:]),
		kind:   be.Uint16(b[6:]),
		cookie: be.Uint64(b[8:]),
		length: be.Uint32(b[16:]),
	}, nil
}

// simpleReply is the header of an unstructured reply.
type simpleReply struct {
	errno  Errno
	cookie uint64
}

func (r simpleReply) appendTo(b []byte) []byte {
	b = be.AppendUint32(b, magicSimple)
	b = be.AppendUint32(b, uint32(r.errno))
	return be.AppendUint64(b, r.cookie)
}

func parseSimpleReply(b []byte) (simpleReply, error) {
	if len(b) != simpleReplyBytes || be.Uint32(b) != magicSimple {
		return simpleReply{}, fmt.Errorf("%w: not a simple reply", ErrProtocol)
	}
	return simpleReply{errno: Errno(be.Uint32(b[4:])), cookie: be.Uint64(b[8:])}, nil
}

// statusRun is one descriptor of a BLOCK_STATUS chunk.
type statusRun struct {
	length uint32
	flags  uint32
}

// statusChunk is the payload of a BLOCK_STATUS chunk.
type statusChunk struct {
	context uint32
	runs    []statusRun
}

func (s statusChunk) appendTo(b []byte) []byte {
	b = be.AppendUint32(b, s.context)
	for _, r := range s.runs {
		b = be.AppendUint32(b, r.length)
		b = be.AppendUint32(b, r.flags)
	}
	return b
}

func parseStatusChunk(b []byte) (statusChunk, error) {
	if len(b) < 12 || len(b)%8 != 4 {
		return statusChunk{}, fmt.Errorf("%w: a status of %d bytes", ErrProtocol, len(b))
	}
	s := statusChunk{context: be.Uint32(b), runs: make([]statusRun, 0, len(b)/8)}
	for b = b[4:]; len(b) > 0; b = b[8:] {
		r := statusRun{length: be.Uint32(b), flags: be.Uint32(b[4:])}
		if r.length == 0 {
			return statusChunk{}, fmt.Errorf("%w: a status of no bytes", ErrProtocol)
		}
		s.runs = append(s.runs, r)
	}
	return s, nil
}

// errorChunk is the payload of an error chunk.
type errorChunk struct {
	errno   Errno
	message string
	// offset is where the error was, for chunkErrorOffset.
	offset uint64
}

func (e errorChunk) appendTo(b []byte, kind uint16) []byte {
	b = be.AppendUint32(b, uint32(e.errno))
	b = be.AppendUint16(b, uint16(len(e.message)))
	b = append(b, e.message...)
	if kind == chunkErrorOffset {
		b = be.AppendUint64(b, e.offset)
	}
	return b
}

func parseErrorChunk(b []byte, kind uint16) (errorChunk, error) {
	tail := 0
	if kind == chunkErrorOffset {
		tail = 8
	}
	if len(b) < 6+tail || len(b) != 6+tail+int(be.Uint16(b[4:])) {
		return errorChunk{}, fmt.Errorf("%w: an error of %d bytes", ErrProtocol, len(b))
	}
	e := errorChunk{errno: Errno(be.Uint32(b)), message: string(b[6 : len(b)-tail])}
	if e.errno == 0 {
		return errorChunk{}, fmt.Errorf("%w: an error without a number", ErrProtocol)
	}
	if tail > 0 {
		e.offset = be.Uint64(b[len(b)-tail:])
	}
	return e, nil
}

func appendString(b []byte, s string) []byte {
	b = be.AppendUint32(b, uint32(len(s)))
	return append(b, s...)
}

func cutString(b []byte) (s string, rest []byte, err error) {
	if len(b) < 4 {
		return "", nil, fmt.Errorf("%w: a string without a length", ErrProtocol)
	}
	n := be.Uint32(b)
	if n > maxString || int(n) > len(b)-4 {
		return "", nil, fmt.Errorf("%w: a string of %d bytes", ErrProtocol, n)
	}
	return string(b[4 : 4+n]), b[4+n:], nil
}
