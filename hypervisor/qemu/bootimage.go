package qemu

import "encoding/binary"

// bootOrigin is where firmware loads a boot sector.
const bootOrigin = 0x7c00

// The memory that the boot image uses, between the firmware's data and itself.
const (
	bootTables  = 0x1000  // four pages: page tables at three levels, and the interrupts
	bootIDT     = 0x4000  // the last of them
	bootCopy    = 0x10000 // where it copies itself
	bootVector  = 0x20    // the timer's interrupt
	bootTicks   = 20      // how many of them it waits for
	bootPort    = 0xf4    // where QEMU listens for the end
	bootGood    = 0x10    // what is said there
	bootExit    = bootGood<<1 | 1
	bootDivisor = 1193 // of the timer's clock: a thousand ticks a second
)

// bootImage is a disk whose boot sector shows that guests run: it sets up page
// tables, goes from 16 to 64 bits, copies itself with a string instruction and
// with SSE, compares, takes timer interrupts, and leaves through QEMU's exit
// port. On the way it meets what a broken KVM breaks: firmware, mode switches,
// paging, interrupts, halting. It reads nothing but its first sector.
func bootImage() []byte {
	var a assembler
	a.realMode()
	a.enterLongMode()
	a.longMode()
	a.tables()
	a.resolve()
	image := make([]byte, 64<<10)
	copy(image, a.code)
	image[510], image[511] = 0x55, 0xaa
	return image
}

// assembler puts instructions together. References to labels are filled in at
// the end.
type assembler struct {
	code   []byte
	labels map[string]int
	refs   []labelRef
}

type labelRef struct {
	at, size int
	label    string
	relative bool
}

func (a *assembler) emit(code ...byte) { a.code = append(a.code, code...) }

func (a *assembler) label(name string) {
	if a.labels == nil {
		a.labels = map[string]int{}
	}
	a.labels[name] = len(a.code)
}

// address emits the address of a label in 2 or 4 bytes.
func (a *assembler) address(label string, size int) {
	a.refs = append(a.refs, labelRef{len(a.code), size, label, false})
	a.emit(make([]byte, size)...)
}

// jump emits a short jump of the given opcode.
func (a *assembler) jump(opcode byte, label string) {
	a.emit(opcode)
	a.refs = append(a.refs, labelRef{len(a.code), 1, label, true})
	a.emit(0)
}

func (a *assembler) resolve() {
	for _, r := range a.refs {
		target, ok := a.labels[r.label]
		if !ok {
			panic("no label " + r.label)
		}
		value := uint32(bootOrigin + target)
		if r.relative {
			value = uint32(target - (r.at + r.size))
		}
		var b [4]byte
		binary.LittleEndian.PutUint32(b[:], value)
		copy(a.code[r.at:r.at+r.size], b[:])
	}
	if len(a.code) > 510 {
		panic("the boot sector is too long")
	}
}

func le16(v int) (lo, hi byte) { return byte(v), byte(v >> 8) }

// store16 is "mov word [address], value" in 16-bit code.
func (a *assembler) store16(address, value int) {
	lo, hi := le16(address)
	low, high := le16(value)
	a.emit(0xc7, 0x06, lo, hi, low, high)
}

// out is "mov al, value; out port, al".
func (a *assembler) out(port, value byte) { a.emit(0xb0, value, 0xe6, port) }

// realMode is what runs in 16 bits: page tables, the interrupt table, the
// interrupt controllers and the timer.
func (a *assembler) realMode() {
	a.emit(0xfa)                                      // cli
	a.emit(0x31, 0xc0)                                // xor ax, ax
	a.emit(0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0)        // mov ds, ax; mov es, ax; mov ss, ax
	a.emit(0xbc, 0x00, 0x7c)                          // mov sp, 0x7c00
	a.emit(0x66, 0x31, 0xc0)                          // xor eax, eax
	a.emit(0xbf, 0x00, 0x10)                          // mov di, bootTables
	a.emit(0xb9, 0x00, 0x10)                          // mov cx, 4096
	a.emit(0xfc, 0xf3, 0x66, 0xab)                    // cld; rep stosd
	a.store16(bootTables, bootTables+0x1000|3)        // level 4 -> level 3, present, writable
	a.store16(bootTables+0x1000, bootTables+0x2000|3) // level 3 -> level 2
	a.store16(bootTables+0x2000, 0x83)                // level 2: one page of 2 MiB at 0
	// The gate of the timer: offset, selector 8, a 64-bit interrupt gate.
	lo, hi := le16(bootIDT + bootVector*16)
	a.emit(0xc7, 0x06, lo, hi) // mov word [gate], tick
	a.address("tick", 2)
	a.store16(bootIDT+bootVector*16+2, 0x08)
	a.store16(bootIDT+bootVector*16+4, 0x8e00)
	// Both interrupt controllers: vectors from 0x20 and 0x28 on, the timer alone.
	a.out(0x20, 0x11)
	a.out(0xa0, 0x11)
	a.out(0x21, bootVector)
	a.out(0xa1, bootVector+8)
	a.out(0x21, 0x04)
	a.out(0xa1, 0x02)
	a.out(0x21, 0x01)
	a.out(0xa1, 0x01)
	a.out(0x21, 0xfe)
	a.out(0xa1, 0xff)
	// The timer: channel 0, low and high byte, a rate generator.
	a.out(0x43, 0x34)
	low, high := le16(bootDivisor)
	a.out(0x40, low)
	a.out(0x40, high)
}

// enterLongMode switches on SSE, paging and 64 bits.
func (a *assembler) enterLongMode() {
	a.emit(0x66, 0xb8, 0x20, 0x06, 0x00, 0x00) // mov eax, PAE | OSFXSR | OSXMMEXCPT
	a.emit(0x0f, 0x22, 0xe0)                   // mov cr4, eax
	a.emit(0x66, 0xb8, 0x00, 0x10, 0x00, 0x00) // mov eax, bootTables
	a.emit(0x0f, 0x22, 0xd8)                   // mov cr3, eax
	a.emit(0x66, 0xb9, 0x80, 0x00, 0x00, 0xc0) // mov ecx, EFER
	a.emit(0x0f, 0x32)                         // rdmsr
	a.emit(0x66, 0x0d, 0x00, 0x01, 0x00, 0x00) // or eax, LME
	a.emit(0x0f, 0x30)                         // wrmsr
	a.emit(0x0f, 0x01, 0x16)                   // lgdt [gdtr]
	a.address("gdtr", 2)
	a.emit(0x0f, 0x20, 0xc0)                   // mov eax, cr0
	a.emit(0x66, 0x83, 0xe0, 0xfb)             // and eax, ~EM
	a.emit(0x66, 0x0d, 0x03, 0x00, 0x00, 0x80) // or eax, PG | MP | PE
	a.emit(0x0f, 0x22, 0xc0)                   // mov cr0, eax
	a.emit(0xea)                               // jmp 8:long
	a.address("long", 2)
	a.emit(0x08, 0x00)
}

// longMode is what runs in 64 bits.
func (a *assembler) longMode() {
	a.label("long")
	a.emit(0x31, 0xc0)                         // xor eax, eax
	a.emit(0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0) // mov ds, eax; mov es, eax; mov ss, eax
	a.emit(0xbc, 0x00, 0x7c, 0x00, 0x00)       // mov esp, 0x7c00
	a.emit(0x0f, 0x01, 0x1c, 0x25)             // lidt [idtr]
	a.address("idtr", 4)
	a.emit(0xbe, 0x00, 0x7c, 0x00, 0x00)                   // mov esi, bootOrigin
	a.emit(0xbf, 0x00, 0x00, 0x01, 0x00)                   // mov edi, bootCopy
	a.emit(0xb9, 0x00, 0x02, 0x00, 0x00)                   // mov ecx, 512
	a.emit(0xf3, 0xa4)                                     // rep movsb
	a.emit(0x0f, 0x10, 0x04, 0x25, 0x00, 0x00, 0x01, 0x00) // movups xmm0, [bootCopy]
	a.emit(0x0f, 0x11, 0x04, 0x25, 0x00, 0x02, 0x01, 0x00) // movups [bootCopy+512], xmm0
	a.emit(0x48, 0x8b, 0x04, 0x25, 0x08, 0x02, 0x01, 0x00) // mov rax, [bootCopy+520]
	a.emit(0x48, 0x3b, 0x04, 0x25, 0x08, 0x7c, 0x00, 0x00) // cmp rax, [bootOrigin+8]
	a.jump(0x75, "hang")                                   // jne hang
	a.emit(0x31, 0xdb)                                     // xor ebx, ebx
	a.emit(0xfb)                                           // sti
	a.label("wait")
	a.emit(0xf4)                  // hlt
	a.emit(0x83, 0xfb, bootTicks) // cmp ebx, bootTicks
	a.jump(0x72, "wait")          // jb wait
	a.out(bootPort, bootGood)
	a.label("hang")
	a.emit(0xfa, 0xf4)   // cli; hlt
	a.jump(0xeb, "hang") // jmp hang
	a.label("tick")      // counts, and tells the interrupt controller
	a.emit(0xff, 0xc3)   // inc ebx
	a.emit(0x50)         // push rax
	a.out(0x20, 0x20)    // end of interrupt
	a.emit(0x58)         // pop rax
	a.emit(0x48, 0xcf)   // iretq
}

// tables are the descriptors that the processor reads.
func (a *assembler) tables() {
	a.label("gdt")
	a.emit(make([]byte, 8)...)                             // none
	a.emit(0x00, 0x00, 0x00, 0x00, 0x00, 0x9a, 0x20, 0x00) // 64-bit code
	a.label("gdtr")
	a.emit(0x0f, 0x00) // limit
	a.address("gdt", 4)
	a.label("idtr")
	lo, hi := le16(bootIDT)
	a.emit(0xff, 0x0f)               // limit
	a.emit(lo, hi, 0, 0, 0, 0, 0, 0) // address
}
