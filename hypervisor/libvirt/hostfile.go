//go:build libvirt_dlopen && cgo

package libvirt

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	lv "libvirt.org/go/libvirt"
)

// What lies beside a machine's disks is small: variables of firmware are at most
// 4 MiB, the state of a TPM less.
const mostHostFile = 16 << 20

// errNoFile: the host has no such file.
var errNoFile = errors.New("no such file on the host")

// readPoolPrefix begins the name of a pool through which such a file is read. It
// lives for the length of a read, in libvirtd's memory alone.
const readPoolPrefix = "lifeboat-read-"

// files are some files of one folder of the host.
type files struct {
	dir  string
	want func(name string) bool
	// tail, if it is not 0, asks for the last bytes of each alone.
	tail int64
}

// oneFile is the file at that path.
func oneFile(at string) files {
	name := path.Base(at)
	return files{dir: path.Dir(at), want: func(n string) bool { return n == name }}
}

// readFiles returns the bytes of files, by name; [errNoFile] if there are none. On this computer it looks there itself. Where it may not, or on another
// computer, libvirtd reads them: a pool over the folder is started, and stopped
// again. It writes nothing.
func (h *Host) readFiles(ctx context.Context, f files) (map[string][]byte, error) {
	if h.local() {
		if found, err := readLocal(f); err == nil && len(found) > 0 {
			return found, nil
		}
	}
	var err error
	for range 3 { // another export on this host may stop the pool under us
		var found map[string][]byte
		found, err = onHost(ctx, h, "read "+f.dir, func(c *lv.Connect) (map[string][]byte, error) {
			return readThroughPool(ctx, c, f)
		})
		if err == nil || errors.Is(err, errNoFile) || ctx.Err() != nil {
			return found, err
		}
	}
	return nil, err
}

func readLocal(f files) (map[string][]byte, error) {
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return nil, err
	}
	found := map[string][]byte{}
	for _, e := range entries {
		if !f.want(e.Name()) || !e.Type().IsRegular() {
			continue
		}
		if found[e.Name()], err = readOne(path.Join(f.dir, e.Name()), f.tail); err != nil {
			return nil, err
		}
	}
	return found, nil
}

func readOne(at string, tail int64) ([]byte, error) {
	file, err := os.Open(at)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	offset, err := begin(info.Size(), tail)
	if err != nil {
		return nil, err
	}
	// It may grow while it is read.
	return io.ReadAll(io.NewSectionReader(file, offset, mostHostFile))
}

// begin is where to begin to read a file of that size.
func begin(size, tail int64) (int64, error) {
	if tail > 0 {
		return max(0, size-tail), nil
	}
	if size > mostHostFile {
		return 0, fmt.Errorf("%d bytes are too many for what it should be", size)
	}
	return 0, nil
}

func readThroughPool(ctx context.Context, c *lv.Connect, f files) (map[string][]byte, error) {
	pool, stop, err := poolOver(c, f.dir)
	if err != nil {
		return nil, err
	}
	defer stop()
	volumes, err := pool.ListAllStorageVolumes(0)
	if err != nil {
		return nil, err
	}
	defer func() {
		for i := range volumes {
			volumes[i].Free()
		}
	}()
	found := map[string][]byte{}
	for i := range volumes {
		name, err := volumes[i].GetName()
		if err != nil || !f.want(name) {
			continue
		}
		if found[name], err = download(ctx, c, &volumes[i], f.tail); err != nil {
			return nil, err
		}
	}
	if len(found) == 0 {
		return nil, errNoFile
	}
	return found, nil
}

// poolOver is a pool whose folder is dir, and what to call when done with it.
func poolOver(c *lv.Connect, dir string) (*lv.StoragePool, func(), error) {
	pool, err := c.LookupStoragePoolByTargetPath(dir)
	if err != nil {
		random := make([]byte, 6)
		rand.Read(random)
		pool, err = c.StoragePoolCreateXML("<pool type='dir'><name>"+readPoolPrefix+hex.EncodeToString(random)+
			"</name><target><path>"+escape(dir)+"</path></target></pool>", 0)
	}
	if isCode(err, lv.ERR_SYSTEM_ERROR) && strings.Contains(err.Error(), "No such file") {
		return nil, nil, errNoFile
	}
	if err != nil {
		return nil, nil, err
	}
	name, err := pool.GetName()
	if err != nil || !strings.HasPrefix(name, readPoolPrefix) {
		return pool, func() { pool.Free() }, err
	}
	return pool, func() {
		// One that is not there any more was stopped by somebody who shared it.
		_ = pool.Destroy()
		_ = pool.Free()
	}, nil
}

// download reads a volume: a file, byte for byte, whatever its format.
func download(ctx context.Context, c *lv.Connect, v *lv.StorageVol, tail int64) ([]byte, error) {
	info, err := v.GetInfoFlags(lv.STORAGE_VOL_GET_PHYSICAL)
	if err != nil {
		return nil, err
	}
	offset, err := begin(int64(min(info.Allocation, 1<<62)), tail)
	if err != nil {
		return nil, err
	}
	stream, err := c.NewStream(0)
	if err != nil {
		return nil, err
	}
	defer stream.Free()
	if err := v.Download(stream, uint64(offset), 0, 0); err != nil {
		return nil, err
	}
	return receive(ctx, stream, mostHostFile)
}

// receive reads a stream to its end.
func receive(ctx context.Context, stream *lv.Stream, most int) ([]byte, error) {
	var all bytes.Buffer
	buf := make([]byte, 256<<10)
	for {
		n, err := stream.Recv(buf)
		switch {
		case errors.Is(err, io.EOF):
			return all.Bytes(), stream.Finish()
		case err == nil && ctx.Err() != nil:
			err = context.Cause(ctx)
		case err == nil && all.Len()+n > most:
			err = errors.New("the host sends more than it should")
		}
		if err != nil {
			_ = stream.Abort()
			return nil, err
		}
		all.Write(buf[:n])
	}
}

// escape is text inside XML.
func escape(text string) string {
	var out bytes.Buffer
	_ = xml.EscapeText(&out, []byte(text)) // a buffer takes everything
	return out.String()
}
