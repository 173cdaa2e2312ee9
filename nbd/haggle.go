package nbd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"time"
)

// agreed is what both ends know when the handshake is over.
type agreed struct {
	exportInfo
	structured bool
	sizes      blockSizes
	// contexts are the numbers of the metadata contexts, by name. They may
	// differ from one connection to the next.
	contexts map[string]uint32
}

func (a agreed) sameAs(b agreed) bool {
	same := func(uint32, uint32) bool { return true }
	return a.exportInfo == b.exportInfo && a.sizes == b.sizes && a.structured == b.structured &&
		maps.EqualFunc(a.contexts, b.contexts, same)
}

// haggler is the client's side of the handshake.
type haggler struct {
	conn   net.Conn
	in     *bufio.Reader
	export string
	agreed agreed
}

// dialLink connects and agrees on an export.
func dialLink(ctx context.Context, network, addr, export string, contexts []string) (*link, error) {
	if len(export) > maxString {
		return nil, fmt.Errorf("a name of %d bytes: %w", len(export), EINVAL)
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	h := &haggler{conn: conn, in: bufio.NewReaderSize(conn, 64<<10), export: export}
	err = h.run(contexts)
	if !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		conn.Close()
		return nil, broken(err)
	}
	return newLink(conn, h.in, h.agreed), nil
}

func (h *haggler) run(contexts []string) error {
	if err := h.greet(); err != nil {
		return err
	}
	replies, err := h.ask(optStructuredReply, nil)
	if err != nil {
		return err
	}
	h.agreed.structured = replies.err == nil
	if h.agreed.structured && len(contexts) > 0 {
		if err := h.setContexts(contexts); err != nil {
			return err
		}
	}
	return h.open()
}

func (h *haggler) greet() error {
	var hello [18]byte
	if _, err := io.ReadFull(h.in, hello[:]); err != nil {
		return err
	}
	if be.Uint64(hello[:]) != magicServer || be.Uint64(hello[8:]) != magicOption {
		return fmt.Errorf("%w: not a server of the kind that we know", ErrProtocol)
	}
	offered := be.Uint16(hello[16:])
	if offered&flagFixedNewstyle == 0 {
		return fmt.Errorf("%w: the server is too old", ErrProtocol)
	}
	_, err := h.conn.Write(be.AppendUint32(nil, uint32(offered&(flagFixedNewstyle|flagNoZeroes))))
	return err
}

// setContexts asks for metadata contexts. A server that has none of them, or
// knows nothing of them, is no error.
func (h *haggler) setContexts(wanted []string) error {
	var names []string
	for _, name := range wanted {
		if !strings.HasSuffix(name, ":") {
			names = append(names, name)
			continue
		}
		found, err := h.contexts(optListMetaContext, []string{name})
		if err != nil {
			return err
		}
		names = slices.AppendSeq(names, maps.Keys(found))
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if len(names) == 0 {
		return nil
	}
	set, err := h.contexts(optSetMetaContext, names)
	h.agreed.contexts = set
	return err
}

// contexts lists or sets metadata contexts.
func (h *haggler) contexts(code uint32, queries []string) (map[string]uint32, error) {
	if len(queries) > maxQueries {
		return nil, fmt.Errorf("%d metadata contexts at once: %w", len(queries), EOVERFLOW)
	}
	replies, err := h.ask(code, metaRequest{export: h.export, queries: queries}.appendTo(nil))
	if err != nil || replies.err != nil {
		return nil, err
	}
	found := map[string]uint32{}
	for _, b := range replies.of(repMetaContext) {
		if len(b) <= 4 || len(b) > 4+maxString {
			return nil, fmt.Errorf("%w: a metadata context of %d bytes", ErrProtocol, len(b))
		}
		found[string(b[4:])] = be.Uint32(b)
	}
	return found, nil
}

// open chooses the export.
func (h *haggler) open() error {
	replies, err := h.ask(optGo, infoRequest{export: h.export, kinds: []uint16{infoBlockSize}}.appendTo(nil))
	if err != nil {
		return err
	}
	if replies.err != nil {
		return replies.err
	}
	described := false
	h.agreed.sizes = blockSizes{minimum: 1, preferred: 4096, maximum: maxPayload}
	for _, b := range replies.of(repInfo) {
		switch {
		case len(b) < 2:
			return fmt.Errorf("%w: information of %d bytes", ErrProtocol, len(b))
		case be.Uint16(b) == infoExport && len(b) == 12:
			h.agreed.exportInfo = exportInfo{sizeBytes: be.Uint64(b[2:]), flags: be.Uint16(b[10:])}
			described = true
		case be.Uint16(b) == infoBlockSize && len(b) == 14:
			h.agreed.sizes = blockSizes{be.Uint32(b[2:]), be.Uint32(b[6:]), be.Uint32(b[10:])}
		}
	}
	if !described {
		return fmt.Errorf("%w: the server did not describe the disk", ErrProtocol)
	}
	return h.agreed.check()
}

// check refuses what we could not count with.
func (a agreed) check() error {
	s := a.sizes
	switch {
	case a.sizeBytes > maxDiskBytes:
		return fmt.Errorf("%w: a disk of %d bytes", ErrProtocol, a.sizeBytes)
	case s.minimum == 0 || s.minimum > 64<<10 || s.minimum&(s.minimum-1) != 0:
		return fmt.Errorf("%w: units of %d bytes", ErrProtocol, s.minimum)
	case s.maximum < s.minimum || s.maximum < 4096:
		return fmt.Errorf("%w: requests of at most %d bytes", ErrProtocol, s.maximum)
	case s.maximum%s.minimum != 0 && s.maximum != 1<<32-1:
		return fmt.Errorf("%w: requests of at most %d bytes in units of %d", ErrProtocol, s.maximum, s.minimum)
	}
	return nil
}

// answers are the replies to one option.
type answers struct {
	replies []optionReply
	data    [][]byte
	// err is the refusal that ended them.
	err error
}

func (a answers) of(kind uint32) [][]byte {
	var found [][]byte
	for i, r := range a.replies {
		if r.kind == kind {
			found = append(found, a.data[i])
		}
	}
	return found
}

// maxAnswers bounds the replies to one option.
const maxAnswers = 256

// ask sends one option and reads the replies to it.
func (h *haggler) ask(code uint32, data []byte) (answers, error) {
	var a answers
	b := option{code: code, length: uint32(len(data))}.appendTo(nil)
	if _, err := h.conn.Write(append(b, data...)); err != nil {
		return a, err
	}
	for range maxAnswers {
		r, data, err := h.reply(code)
		if err != nil {
			return a, err
		}
		switch {
		case r.kind == repAck:
			return a, nil
		case r.kind&repErrBit != 0:
			a.err = refusal(r.kind, data)
			return a, nil
		}
		a.replies = append(a.replies, r)
		a.data = append(a.data, data)
	}
	return a, fmt.Errorf("%w: answers without end", ErrProtocol)
}

func (h *haggler) reply(code uint32) (optionReply, []byte, error) {
	var head [optionReplyBytes]byte
	if _, err := io.ReadFull(h.in, head[:]); err != nil {
		return optionReply{}, nil, err
	}
	r, err := parseOptionReply(head[:])
	if err != nil {
		return r, nil, err
	}
	if r.code != code || r.length > maxOptionData {
		return r, nil, fmt.Errorf("%w: an answer of %d bytes to option %d", ErrProtocol, r.length, r.code)
	}
	data := make([]byte, r.length)
	_, err = io.ReadFull(h.in, data)
	return r, data, err
}

// refusal makes an error of what the server said. Its words are quoted: they
// end up on a screen.
func refusal(kind uint32, message []byte) error {
	if kind == repErrUnknown {
		return ErrNoExport
	}
	return fmt.Errorf("the disk server refused (%#x): %.200q", kind&^repErrBit, message)
}

// broken says of a lost connection that the server is gone.
func broken(err error) error {
	var network net.Error
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return ErrGone
	case errors.As(err, &network) && !errors.Is(err, ErrGone):
		return fmt.Errorf("%w: %w", ErrGone, err)
	default:
		return err
	}
}
