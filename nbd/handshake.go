package nbd

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
)

// errAbort ends a handshake that the peer gave up.
var errAbort = errors.New("the peer gave up")

// allocationID is the number that status replies carry for ContextAllocation.
const allocationID = 1

// maxOptions is how many options a peer may try. A client that looks at every
// export uses a few for each.
const maxOptions = 4096

// handshake is the server's side of the haggling that ends with an export.
type handshake struct {
	s    *Server
	conn net.Conn
	in   *bufio.Reader

	noZeroes   bool
	structured bool
	// allocation says that the peer set ContextAllocation for metaExport.
	allocation bool
	metaExport string
	// chosen is the export that the peer chose, once done is set.
	chosen string
	export Export
	done   bool
}

// run greets the peer and answers its options until it chose an export.
func (h *handshake) run() error {
	if err := h.greet(); err != nil {
		return err
	}
	for range maxOptions {
		var head [optionBytes]byte
		if _, err := io.ReadFull(h.in, head[:]); err != nil {
			return err
		}
		o, err := parseOption(head[:])
		if err != nil {
			return err
		}
		if o.length > maxOptionData {
			return fmt.Errorf("%w: an option of %d bytes", ErrProtocol, o.length)
		}
		data := make([]byte, o.length)
		if _, err := io.ReadFull(h.in, data); err != nil {
			return err
		}
		if err := h.answer(o.code, data); err != nil || h.done {
			return err
		}
	}
	return fmt.Errorf("%w: too many options", ErrProtocol)
}

func (h *handshake) greet() error {
	hello := be.AppendUint64(nil, magicServer)
	hello = be.AppendUint64(hello, magicOption)
	hello = be.AppendUint16(hello, flagFixedNewstyle|flagNoZeroes)
	if _, err := h.conn.Write(hello); err != nil {
		return err
	}
	var b [4]byte
	if _, err := io.ReadFull(h.in, b[:]); err != nil {
		return err
	}
	flags := be.Uint32(b[:])
	if flags&^uint32(flagFixedNewstyle|flagNoZeroes) != 0 {
		return fmt.Errorf("%w: unknown client flags %#x", ErrProtocol, flags)
	}
	h.noZeroes = flags&uint32(flagNoZeroes) != 0
	return nil
}

// answer handles one option.
func (h *handshake) answer(code uint32, data []byte) error {
	switch code {
	case optExportName:
		return h.exportName(string(data))
	case optAbort:
		h.reply(code, repAck, nil)
		return errAbort
	case optList:
		return h.list(data)
	case optInfo, optGo:
		return h.info(code, data)
	case optStructuredReply:
		if len(data) != 0 {
			return h.reply(code, repErrInvalid, nil)
		}
		h.structured = true
		return h.reply(code, repAck, nil)
	case optListMetaContext, optSetMetaContext:
		return h.meta(code, data)
	default:
		return h.reply(code, repErrUnsup, nil)
	}
}

// exportName is the old way to choose an export, which has no way to say no.
func (h *handshake) exportName(name string) error {
	e, ok := h.s.export(name)
	if !ok {
		return ErrNoExport
	}
	b := h.describe(e).appendTo(nil)
	if !h.noZeroes {
		b = append(b, make([]byte, 124)...)
	}
	h.chosen, h.export, h.done = name, e, true
	_, err := h.conn.Write(b)
	return err
}

func (h *handshake) list(data []byte) error {
	if len(data) != 0 {
		return h.reply(optList, repErrInvalid, nil)
	}
	for _, name := range slices.Sorted(maps.Keys(h.s.exports)) {
		if err := h.reply(optList, repServer, appendString(nil, name)); err != nil {
			return err
		}
	}
	return h.reply(optList, repAck, nil)
}

// info tells about an export, and with GO chooses it.
func (h *handshake) info(code uint32, data []byte) error {
	r, err := parseInfoRequest(data)
	if err != nil {
		return h.reply(code, repErrInvalid, nil)
	}
	e, ok := h.s.export(r.export)
	if !ok {
		return h.reply(code, repErrUnknown, nil)
	}
	about := h.describe(e).appendTo(be.AppendUint16(nil, infoExport))
	if err := h.reply(code, repInfo, about); err != nil {
		return err
	}
	// Told unasked as well: with a minimum of 1 nobody can get it wrong.
	sizes := servedSizes.appendTo(be.AppendUint16(nil, infoBlockSize))
	if err := h.reply(code, repInfo, sizes); err != nil {
		return err
	}
	if err := h.reply(code, repAck, nil); err != nil {
		return err
	}
	if code == optGo {
		h.chosen, h.export, h.done = r.export, e, true
	}
	return nil
}

// servedSizes is what we tell: any byte can be read, frames of the store are
// best read in large pieces.
var servedSizes = blockSizes{minimum: 1, preferred: 64 << 10, maximum: maxPayload}

func (h *handshake) describe(e Export) exportInfo {
	flags := FlagHasFlags | FlagReadOnly | FlagSendFlush | FlagSendFUA | FlagMultiConn | FlagSendCache
	if h.structured {
		flags |= FlagSendDF
	}
	return exportInfo{sizeBytes: uint64(e.SizeBytes()), flags: flags}
}

// meta lists or sets the metadata contexts; we have one.
func (h *handshake) meta(code uint32, data []byte) error {
	r, err := parseMetaRequest(data)
	if err != nil || !h.structured {
		return h.reply(code, repErrInvalid, nil)
	}
	if _, ok := h.s.export(r.export); !ok {
		return h.reply(code, repErrUnknown, nil)
	}
	list := code == optListMetaContext
	match := list && len(r.queries) == 0
	for _, q := range r.queries {
		match = match || q == ContextAllocation || list && strings.TrimSuffix(q, ":") == "base"
	}
	if !list {
		h.allocation, h.metaExport = match, r.export
	}
	if match {
		b := append(be.AppendUint32(nil, allocationID), ContextAllocation...)
		if err := h.reply(code, repMetaContext, b); err != nil {
			return err
		}
	}
	return h.reply(code, repAck, nil)
}

func (h *handshake) reply(code, kind uint32, data []byte) error {
	b := optionReply{code: code, kind: kind, length: uint32(len(data))}.appendTo(nil)
	_, err := h.conn.Write(append(b, data...))
	return err
}
