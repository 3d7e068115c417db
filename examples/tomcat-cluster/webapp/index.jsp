<%@ page session="false" %><p>Served by <%= java.net.InetAddress.getLocalHost().getHostName() %>.</p>
