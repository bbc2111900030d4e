//! What boring has no safe call for.

use boring::error::ErrorStack;
use boring::x509::store::X509StoreBuilderRef;
use boring::x509::{GeneralNameRef, X509Ref};
use foreign_types_shared::ForeignTypeRef;

/// Bits of an extended key usage extension, or `None` when there is none.
pub(super) fn extended_key_usage(certificate: &X509Ref) -> Option<u32> {
    // SAFETY: the pointer is a live X509; the call caches parsed extensions under the object's lock.
    let usage = unsafe { boring_sys::X509_get_extended_key_usage(certificate.as_ptr()) };
    (usage != u32::MAX).then_some(usage)
}

/// Whether an extended key usage has clientAuth.
pub(super) const fn has_client_auth(usage: u32) -> bool {
    usage & boring_sys::XKU_SSL_CLIENT as u32 != 0
}

/// Whether an extended key usage has serverAuth.
pub(super) const fn has_server_auth(usage: u32) -> bool {
    usage & boring_sys::XKU_SSL_SERVER as u32 != 0
}

/// Whether every extension that BoringSSL knows can be read and occurs once.
pub(super) fn extensions_are_valid(certificate: &X509Ref) -> bool {
    // SAFETY: the pointer is a live X509; the call caches parsed extensions under the object's lock.
    let flags = unsafe { boring_sys::X509_get_extension_flags(certificate.as_ptr()) };
    flags & boring_sys::EXFLAG_INVALID as u32 == 0
}

/// Whether the certificate may sign others.
pub(super) fn is_authority(certificate: &X509Ref) -> bool {
    // SAFETY: the pointer is a live X509; the call caches parsed extensions under the object's lock.
    unsafe { boring_sys::X509_check_ca(certificate.as_ptr()) == 1 }
}

/// DER of the SubjectPublicKeyInfo as it stands in the certificate.
pub(super) fn spki_der(certificate: &X509Ref) -> Option<Vec<u8>> {
    // SAFETY: the pointer is a live X509, which owns the returned key for as long as it lives.
    let key = unsafe { boring_sys::X509_get_X509_PUBKEY(certificate.as_ptr()) };
    if key.is_null() {
        return None;
    }
    // SAFETY: the key is live; without an output pointer the call only measures.
    let length = unsafe { boring_sys::i2d_X509_PUBKEY(key, std::ptr::null_mut()) };
    let mut der = vec![0; usize::try_from(length).ok()?];
    let mut end = der.as_mut_ptr();
    // SAFETY: the key is live and has not changed since it was measured, so it fits `der`.
    let written = unsafe { boring_sys::i2d_X509_PUBKEY(key, &raw mut end) };
    (written == length).then_some(der)
}

/// Which alternative of GeneralName it is.
pub(super) fn general_name_kind(name: &GeneralNameRef) -> i32 {
    // SAFETY: the pointer is a live GENERAL_NAME, whose type is set when it is made.
    unsafe { (*name.as_ptr()).type_ }
}

/// Makes verification with this store demand that the leaf may act as `purpose`.
pub(super) fn set_purpose(store: &mut X509StoreBuilderRef, purpose: i32) -> Result<(), ErrorStack> {
    let parameters = store.verify_param_mut().as_ptr();
    // SAFETY: the parameters belong to the store, which is borrowed mutably.
    let done = unsafe { boring_sys::X509_VERIFY_PARAM_set_purpose(parameters, purpose) };
    if done == 1 { Ok(()) } else { Err(ErrorStack::get()) }
}
