//! Runtimes around other runtimes: what such a one does not do in its own way it leaves to the one
//! within.

#[doc(hidden)]
pub use controlplane_driver::{Metered, Runtime};
#[doc(hidden)]
pub use http::Request;
#[doc(hidden)]
pub use rustls::{
    ClientConfig,
    pki_types::{CertificateDer, ServerName},
};
#[doc(hidden)]
pub use tokio_tungstenite::tungstenite::{Error, protocol::WebSocketConfig};

/// Methods of a [`Runtime`] around another of type `R`, which is in a field: `left_to!(inner: tcp
/// udp)`. The types of what they return are that runtime's.
#[macro_export]
macro_rules! left_to {
    ($field:tt: $($method:ident)*) => {
        $($crate::left_to!(@$method $field);)*
    };
    (@name $field:tt) => {
        fn name(&self) -> &'static str {
            self.$field.name()
        }
    };
    (@resolve $field:tt) => {
        fn resolve(
            &self,
            host: String,
            port: u16,
        ) -> impl Future<Output = std::io::Result<Vec<std::net::SocketAddr>>> + Send + 'static {
            self.$field.resolve(host, port)
        }
    };
    (@tcp $field:tt) => {
        fn tcp(
            &self,
            address: std::net::SocketAddr,
        ) -> impl Future<Output = std::io::Result<Self::Io>> + Send + 'static {
            self.$field.tcp(address)
        }
    };
    (@udp $field:tt) => {
        fn udp(
            &self,
            address: std::net::SocketAddr,
        ) -> impl Future<Output = std::io::Result<Self::Udp>> + Send + 'static {
            self.$field.udp(address)
        }
    };
    (@tls $field:tt) => {
        fn tls(
            &self,
            io: Self::Io,
            config: std::sync::Arc<$crate::wrapping::ClientConfig>,
            name: $crate::wrapping::ServerName<'static>,
        ) -> impl Future<Output = std::io::Result<Self::Io>> + Send + 'static {
            self.$field.tls(io, config, name)
        }

        fn peer_certificate(
            io: &Self::Io,
        ) -> Option<$crate::wrapping::CertificateDer<'static>> {
            R::peer_certificate(io)
        }
    };
    (@websocket $field:tt) => {
        fn websocket(
            &self,
            request: $crate::wrapping::Request<()>,
            io: $crate::wrapping::Metered<Self::Io>,
            config: $crate::wrapping::WebSocketConfig,
        ) -> impl Future<Output = Result<Self::Socket, $crate::wrapping::Error>> + Send + 'static
        {
            self.$field.websocket(request, io, config)
        }

        fn websocket_over(
            &self,
            io: $crate::wrapping::Metered<Self::Io>,
            read: Vec<u8>,
            config: $crate::wrapping::WebSocketConfig,
        ) -> impl Future<Output = Self::Socket> + Send + 'static {
            self.$field.websocket_over(io, read, config)
        }
    };
    (@spawn $field:tt) => {
        fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
            self.$field.spawn(task);
        }
    };
    (@timer $field:tt) => {
        fn timer(&self, at: std::time::Instant) -> Self::Timer {
            self.$field.timer(at)
        }
    };
    (@now $field:tt) => {
        fn now(&self) -> std::time::Instant {
            self.$field.now()
        }
    };
}
